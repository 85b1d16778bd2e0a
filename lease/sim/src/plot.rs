//! Plots of the report, as SVG.

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 420);
const FONT: (&str, i32) = ("sans-serif", 13);

/// Colours that differ in lightness and in hue.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 63, 125),
    RGBColor(78, 156, 222),
    RGBColor(148, 45, 0),
    RGBColor(222, 110, 40),
    RGBColor(250, 180, 100),
    RGBColor(20, 90, 40),
    RGBColor(90, 170, 90),
    RGBColor(170, 215, 150),
];

/// One line of a plot.
pub(crate) struct Line {
    pub(crate) title: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot with logarithmic axes.
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) lines: Vec<Line>,
    /// Whether the horizontal axis is linear.
    pub(crate) is_linear: bool,
}

impl Plot<'_> {
    /// Draws the plot.
    pub(crate) fn draw(&self) -> Result<String, String> {
        let mut text = String::new();
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let range = |of: fn(&(f64, f64)) -> f64| {
            let least = points().map(of).fold(f64::MAX, f64::min);
            let most = points().map(of).fold(f64::MIN, f64::max);
            least..most
        };
        let (x, y) = (range(|point| point.0), range(|point| point.1));
        let y = (y.start.max(1e-3) / 1.5..y.end.max(1e-2) * 1.5).log_scale();
        let result = if self.is_linear {
            self.draw_on(&mut text, x, y)
        } else {
            self.draw_on(&mut text, (x.start..x.end).log_scale(), y)
        };
        result.map_err(|error| error.to_string())?;
        Ok(text)
    }

    fn draw_on<X, Y>(&self, text: &mut String, x: X, y: Y) -> Result<(), Box<dyn std::error::Error>>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 16))
            .margin(10)
            .margin_right(20)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .label_style(FONT)
            .light_line_style(WHITE)
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS) {
            let points = line.points.iter().copied();
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
                .label(&line.title)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
            chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font(FONT)
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// A number in few characters.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if magnitude >= 1000.0 {
        thousands(value.round() as i64)
    } else if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        trimmed(format!("{value:.1}"))
    } else if magnitude >= 0.01 {
        trimmed(format!("{value:.2}"))
    } else {
        trimmed(format!("{value:.4}"))
    }
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn thousands(value: i64) -> String {
    let digits = value.abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 {
        text.insert(0, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.0012, 0.5, 2.0, 12.34, 123.4, 1234.5, 1_234_567.0].map(number);
        let expected = [
            "0",
            "0.0012",
            "0.5",
            "2",
            "12.3",
            "123",
            "1,235",
            "1,234,567",
        ];
        assert_eq!(texts, expected);
    }
}
