//! Line charts that can be read in black and white: each line has a pattern of dashes, a marker and
//! its name at its end.

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

/// The size of a chart. It is shown as wide as there is room, so letters must bear to be a quarter
/// smaller on a phone.
const SIZE: (u32, u32) = (460, 340);
const FONT: (&str, i32) = ("sans-serif", 13);
/// The room for the labels under the axis.
const BELOW: i32 = 42;
/// How wide a letter is, about: the names at the right must fit.
const LETTER: f64 = 6.6;

/// The contents of a plot.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    pub(crate) x: String,
    pub(crate) y: &'a str,
    pub(crate) ticks: Vec<String>,
    pub(crate) lines: Vec<Series<'a>>,
    pub(crate) marks: Vec<Mark>,
}

/// A position on the axis that has a label.
#[derive(Debug)]
pub(crate) struct Mark {
    /// Ticks from the left, and parts of the way to the next.
    pub(crate) place: f64,
    pub(crate) label: String,
}

/// One line, with a point or none at each tick.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    /// Drawn heavier.
    pub(crate) ours: bool,
    pub(crate) points: Vec<Option<Spot>>,
}

/// A value, and from where to where half of the measurements were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    pub(crate) value: f64,
    pub(crate) spread: Option<[f64; 2]>,
}

/// Dash and gap in pixels, nought for a line without gaps; and a colour that is dark enough to
/// print.
const DASHES: [[i32; 2]; 5] = [[0, 0], [8, 4], [2, 3], [14, 4], [5, 2]];
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 90, 160),
    RGBColor(170, 60, 0),
    RGBColor(0, 110, 80),
    RGBColor(130, 60, 120),
];

/// The corners of a marker around its middle.
type Corners = &'static [(i32, i32)];

const SQUARE: Corners = &[(-4, -4), (4, -4), (4, 4), (-4, 4)];
const UP: Corners = &[(0, -5), (5, 4), (-5, 4)];
const DOWN: Corners = &[(0, 5), (5, -4), (-5, -4)];
const DIAMOND: Corners = &[(0, -5), (5, 0), (0, 5), (-5, 0)];
#[rustfmt::skip]
const ROUND: Corners = &[(-2, -5), (2, -5), (5, -2), (5, 2), (2, 5), (-2, 5), (-5, 2), (-5, -2)];
#[rustfmt::skip]
const CROSS: Corners = &[
    (-2, -5), (2, -5), (2, -2), (5, -2), (5, 2), (2, 2), (2, 5), (-2, 5), (-2, 2), (-5, 2), (-5, -2), (-2, -2),
];
const HOURGLASS: Corners = &[(-5, -5), (5, -5), (-5, 5), (5, 5)];
const BOW: Corners = &[(-5, -5), (-5, 5), (5, -5), (5, 5)];

/// Markers, and whether they are filled: one for each line, so that none needs its colour or its
/// dashes.
const MARKERS: [(Corners, bool); 13] = [
    (SQUARE, true),
    (UP, true),
    (DIAMOND, false),
    (SQUARE, false),
    (DOWN, false),
    (DIAMOND, true),
    (ROUND, false),
    (CROSS, true),
    (UP, false),
    (HOURGLASS, true),
    (ROUND, true),
    (BOW, false),
    (DOWN, true),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), String>;
type Pixel = (i32, i32);

/// Draws it as SVG; `None` if it has no point.
pub(crate) fn svg(chart: &Chart<'_>) -> Result<Option<String>, String> {
    let points = || chart.lines.iter().flat_map(|line| &line.points).flatten();
    let ends = points().flat_map(|spot| spot.spread.into_iter().flatten().chain([spot.value]));
    let (low, high) = ends.fold((f64::MAX, 0.0_f64), |(low, high), y| {
        (low.min(y), high.max(y))
    });
    if high <= 0.0 {
        return Ok(None);
    }
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(chart, &area, (low * 0.8).max(high / 1e9)..high * 1.25)?;
        area.present().map_err(said)?;
    }
    Ok(Some(text))
}

fn said(error: impl std::fmt::Display) -> String {
    format!("a chart cannot be drawn: {error}")
}

fn draw(chart: &Chart<'_>, area: &Area<'_>, range: std::ops::Range<f64>) -> Drawn {
    area.fill(&WHITE).map_err(said)?;
    let longest = chart.lines.iter().map(|line| line.name.len()).max();
    let names = longest.unwrap_or_default() as f64 * LETTER + 44.0;
    let mut axes = ChartBuilder::on(area)
        .margin_top(10)
        .margin_right(names as i32)
        .x_label_area_size(BELOW)
        .y_label_area_size(58)
        .build_cartesian_2d(
            0..(chart.ticks.len() - 1).max(1),
            range
                .clone()
                .log_scale()
                .with_key_points(steps(range.clone())),
        )
        .map_err(said)?;
    axes.configure_mesh()
        .label_style(FONT)
        .axis_desc_style(FONT)
        .x_desc(&chart.x)
        .y_desc(chart.y)
        .x_labels(chart.ticks.len())
        .x_label_formatter(&|&place| chart.ticks.get(place).cloned().unwrap_or_default())
        .y_label_formatter(&|&value| short(value))
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .draw()
        .map_err(said)?;
    let [top, bottom] = [range.end, range.start];
    for mark in &chart.marks {
        let at = |y| {
            let ends = [mark.place.floor(), mark.place.ceil()];
            let [left, right] = ends.map(|place| axes.backend_coord(&(place as usize, y)));
            let way = f64::from(right.0 - left.0) * mark.place.fract();
            (left.0 + way.round() as i32, left.1)
        };
        draw_mark(area, &mark.label, [at(top), at(bottom)])?;
    }
    let mut ends = Vec::new();
    for (which, line) in chart.lines.iter().enumerate() {
        let at = |(place, spot): (usize, &Option<Spot>)| {
            let spot = (*spot)?;
            let [low, high] = spot.spread.unwrap_or([spot.value; 2]);
            Some([spot.value, low, high].map(|y| axes.backend_coord(&(place, y))))
        };
        let spots = line.points.iter().enumerate().map(at);
        if let Some(end) = draw_line(area, which, line.ours, &spots.collect::<Vec<_>>())? {
            ends.push((which, line.name, end));
        }
    }
    let right = i32::try_from(SIZE.0).unwrap_or(i32::MAX) - names as i32;
    draw_names(area, right, ends)
}

/// Draws an upright line, from the top to the bottom, with its label beside its top.
fn draw_mark(area: &Area<'_>, label: &str, [top, bottom]: [Pixel; 2]) -> Drawn {
    let path = DashedPathElement::new(vec![top, bottom], 6, 5, BLACK.stroke_width(1));
    area.draw(&path).map_err(said)?;
    let wide = (label.len() as f64 * LETTER) as i32;
    // To its right, or to its left where that would be beyond the names' middle.
    let x = if top.0 + wide + 4 < SIZE.0 as i32 * 3 / 5 {
        top.0 + 4
    } else {
        top.0 - wide - 4
    };
    let behind = Rectangle::new([(x - 2, top.1), (x + wide + 2, top.1 + 15)], WHITE.filled());
    area.draw(&behind).map_err(said)?;
    let text = Text::new(label.to_owned(), (x, top.1 + 1), FONT);
    area.draw(&text).map_err(said)
}

/// Draws one line with its markers, and returns where it ends.
fn draw_line(
    area: &Area<'_>,
    which: usize,
    ours: bool,
    spots: &[Option<[Pixel; 3]>],
) -> Result<Option<Pixel>, String> {
    let colour = COLOURS[which % COLOURS.len()];
    let style = colour.stroke_width(if ours { 3 } else { 1 });
    let [dash, gap] = DASHES[which % DASHES.len()];
    // Where there is no verdict there is no line.
    for part in spots.split(Option::is_none) {
        let path: Vec<Pixel> = part.iter().flatten().map(|spot| spot[0]).collect();
        if dash == 0 {
            area.draw(&PathElement::new(path, style)).map_err(said)?;
        } else {
            let path = DashedPathElement::new(path, dash, gap, style);
            area.draw(&path).map_err(said)?;
        }
    }
    for [middle, low, high] in spots.iter().flatten() {
        let spread = PathElement::new(vec![*low, *high], colour.stroke_width(1));
        area.draw(&spread).map_err(said)?;
        draw_marker(area, which, *middle)?;
    }
    let last = spots.iter().flatten().next_back();
    Ok(last.map(|spot| spot[0]))
}

fn draw_marker(area: &Area<'_>, which: usize, (x, y): Pixel) -> Drawn {
    let (corners, filled) = MARKERS[which % MARKERS.len()];
    let colour = COLOURS[which % COLOURS.len()];
    let mut outline: Vec<Pixel> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
    let inside = if filled { colour } else { WHITE };
    let area_of_it = Polygon::new(outline.clone(), inside.filled());
    area.draw(&area_of_it).map_err(said)?;
    outline.push(outline[0]);
    area.draw(&PathElement::new(outline, colour.stroke_width(1)))
        .map_err(said)
}

/// Writes the names to the right, each behind the marker of its line, in the order of the ends. No
/// line leads to them: it would look like data.
fn draw_names(area: &Area<'_>, right: i32, mut ends: Vec<(usize, &str, Pixel)>) -> Drawn {
    const APART: i32 = 15;
    ends.sort_by_key(|(_, _, (_, y))| *y);
    let wanted: Vec<i32> = ends.iter().map(|(_, _, (_, y))| *y).collect();
    let bottom = i32::try_from(SIZE.1).unwrap_or(i32::MAX) - BELOW - APART / 2;
    let places = spread(&wanted, APART, APART, bottom);
    for ((which, name, _), y) in ends.into_iter().zip(places) {
        draw_marker(area, which, (right + 26, y))?;
        let name = Text::new(name.to_owned(), (right + 34, y - 7), FONT);
        area.draw(&name).map_err(said)?;
    }
    Ok(())
}

/// Moves positions, which are in order, so that they lie `apart` between `top` and `bottom`, and
/// hardly more than that requires.
fn spread(wanted: &[i32], apart: i32, top: i32, bottom: i32) -> Vec<i32> {
    let mut places = wanted.to_vec();
    let mut least = top;
    for place in &mut places {
        *place = (*place).max(least);
        least = *place + apart;
    }
    let mut most = bottom;
    for place in places.iter_mut().rev() {
        *place = (*place).min(most);
        most = *place - apart;
    }
    places
}

/// The labels beside the axis: powers of ten, with two and five between them where there are few.
fn steps(range: std::ops::Range<f64>) -> Vec<f64> {
    let decades = (range.end / range.start).log10();
    let between: &[f64] = if decades < 2.5 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let lowest = range.start.log10().floor() as i32;
    let powers = (lowest..).map(|power| 10_f64.powi(power));
    powers
        .flat_map(|power| between.iter().map(move |step| step * power))
        .skip_while(|step| *step < range.start)
        .take_while(|step| *step <= range.end)
        .collect()
}

/// A number in few letters.
fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    format!("{}{unit}", (scaled * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: Vec<Option<f64>>) -> Series<'_> {
        let spot = |value| Spot {
            value,
            spread: Some([value * 0.9, value * 1.1]),
        };
        Series {
            name,
            ours: true,
            points: points.into_iter().map(|point| point.map(spot)).collect(),
        }
    }

    fn chart(lines: Vec<Series<'_>>) -> Chart<'_> {
        Chart {
            x: "threads".to_owned(),
            y: "a second",
            ticks: ["1", "2", "4"].map(str::to_owned).to_vec(),
            lines,
            marks: Vec::new(),
        }
    }

    #[test]
    fn a_chart_has_the_names_of_its_lines_and_no_name_without_a_point() {
        let lines = vec![
            series("somebody", vec![Some(1e6), None, Some(2e6)]),
            series("nobody", vec![None, None, None]),
        ];
        let svg = svg(&chart(lines)).expect("it can be drawn");
        let svg = svg.expect("it has points");
        assert!(svg.contains("somebody") && !svg.contains("nobody"));
    }

    #[test]
    fn a_mark_stands_where_it_is_said_to() {
        let at = |place| {
            let label = "cross at 3".to_owned();
            let chart = Chart {
                marks: vec![Mark { place, label }],
                ..chart(vec![series("somebody", vec![Some(1e6); 3])])
            };
            let svg = svg(&chart).expect("it can be drawn");
            let svg = svg.expect("it has points");
            let (before, _) = svg.split_once("cross at 3").expect("the mark");
            let (_, tag) = before.rsplit_once(" x=\"").expect("its place");
            let x = tag.split('"').next().expect("a number");
            x.parse::<i32>().expect("a number")
        };
        let [left, between, right] = [0.0, 0.25, 0.5].map(at);
        assert!(left < right);
        assert!((left + right - 2 * between).abs() <= 1);
    }

    #[test]
    fn nothing_is_not_drawn() {
        let empty = chart(vec![series("nobody", vec![None; 3])]);
        assert_eq!(svg(&empty), Ok(None));
    }

    #[test]
    fn names_keep_apart_and_inside() {
        let places = spread(&[50, 51, 52, 95], 10, 10, 100);
        assert_eq!(places, [50, 60, 70, 95]);
        assert_eq!(spread(&[95, 98, 99], 10, 10, 100), [80, 90, 100]);
    }

    #[test]
    fn steps_are_inside() {
        assert_eq!(steps(3.0..60.0), [5.0, 10.0, 20.0, 50.0]);
        assert_eq!(steps(3.0..60_000.0), [10.0, 100.0, 1_000.0, 10_000.0]);
    }

    #[test]
    fn no_two_lines_have_one_marker() {
        let markers: std::collections::HashSet<_> = MARKERS.into_iter().collect();
        assert_eq!(markers.len(), MARKERS.len());
        for scenario in latchwork_bench::scenarios::all() {
            let lines = scenario.contenders.len();
            assert!(lines <= MARKERS.len(), "{}: {lines}", scenario.name);
        }
    }
}
