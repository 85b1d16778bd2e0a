//! The page: a chart of rates and one of times for each question, its tables folded away, and how
//! to read them.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::digest::{Answer, Line};
use crate::plot::{self, Chart, Mark, Series, Spot};
use crate::raw::{Head, PARTS};
use crate::table::{self, Rows};
use crate::verdict;

const STYLE: &str = "
body { font: 16px/1.45 system-ui, sans-serif; color: #111; background: #fff; margin: 0 auto; padding: 0 12px 40px;
       max-width: 1180px; }
h1 { font-size: 1.6em; } h2 { font-size: 1.25em; margin-top: 2.2em; border-top: 1px solid #999; padding-top: .7em; }
p, li { max-width: 46em; }
nav ul { columns: 18em; column-gap: 2.5em; padding-left: 1.2em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 14px; }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: 4px; }
svg { width: 100%; height: auto; max-width: 600px; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85em; font-variant-numeric: tabular-nums; margin: .6em 0; }
th, td { padding: 3px 9px; border-bottom: 1px solid #ccc; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th:first-child { white-space: normal; }
.facts td { white-space: normal; text-align: left; } .facts td:first-child { font-weight: 600; vertical-align: top; }
.verdict { margin: .2em 0 .6em; border-left: 4px solid #111; padding-left: .6em; }
figure .verdict { min-height: 4.4em; }
summary { cursor: pointer; margin-top: .6em; }
@media print { details { display: block; } h2 { break-before: auto; } figure { break-inside: avoid; } }
";

/// Renders the whole page.
pub(crate) fn html(head: &Head, answers: &[Answer<'_>]) -> Result<String, String> {
    let sections: Result<Vec<_>, _> = answers.iter().map(section).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "latchwork: the sweep" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "latchwork beside what else would do" }
                div.wide {
                    table.facts {
                        @for [name, what] in table::facts(head) {
                            tr { td { (name) } td { (what) } }
                        }
                    }
                }
                ul {
                    @for sentence in table::HOW_TO_READ { li { (sentence) } }
                    li id="gaps" { (table::NO_VERDICT) }
                }
                p {
                    "In the charts both scales are what they say: rates and times are logarithmic, what varies is not to scale. \
                     Heavy lines are of this crate; a thin upright line is the middle half of the runs, and a dashed one over the whole chart \
                     is where the optimistic line and the pessimistic one cross. The numbers themselves are in "
                    a href="raw.jsonl" { "raw.jsonl" } " and " a href="table.txt" { "table.txt" } "."
                }
                nav {
                    ul {
                        @for answer in answers {
                            li { a href={ "#" (answer.scenario.name) } { (answer.scenario.title) } }
                        }
                    }
                }
                @for section in sections? { (section) }
            }
        }
    };
    Ok(page.into_string())
}

fn section(answer: &Answer<'_>) -> Result<Markup, String> {
    let scenario = answer.scenario;
    let rates = chart_of_rates(answer)?;
    let crossing = answer.crossings_in_words();
    let times = match answer.last() {
        Some(place) => chart_of_times(answer, place)?.map(|svg| (place, svg)),
        None => None,
    };
    Ok(html! {
        section id=(scenario.name) {
            h2 { (scenario.title) }
            p { (scenario.prose) }
            div.charts {
                @if let Some(svg) = &rates {
                    figure {
                        figcaption { "How many operations a second do all threads do together?" }
                        p.verdict {
                            (verdict::rates(answer))
                            @if let Some(crossing) = &crossing { " " (crossing) }
                        }
                        (PreEscaped(svg))
                    }
                }
                @if let Some((place, svg)) = times {
                    figure {
                        figcaption { "How long does one operation take?" }
                        p.verdict { (verdict::times(answer, place)) }
                        (PreEscaped(svg))
                    }
                }
            }
            @if rates.is_none() { p.verdict { (verdict::NONE) } }
            @if let Some(gaps) = gaps(answer) { p { a href="#gaps" { (gaps) } } }
            details {
                summary { "Numbers, and what each promises" }
                (markup(table::rates(answer)))
                @if let Some(place) = answer.last() { (markup(table::times(answer, place))) }
                ul {
                    @for line in answer.lines.iter().filter(|line| !line.note.is_empty()) {
                        li { b { (line.name) } ": " (line.note) }
                    }
                }
            }
        }
    })
}

fn markup(rows: Rows) -> Markup {
    let mut rows = rows.into_iter();
    html! {
        div.wide {
            table {
                tr { @for cell in rows.next().unwrap_or_default() { th { (cell) } } }
                @for row in rows { tr { @for cell in row { td { (cell) } } } }
            }
        }
    }
}

/// How many points are missing. What that means is explained once, at the beginning.
fn gaps(answer: &Answer<'_>) -> Option<String> {
    let points = || answer.lines.iter().flat_map(|line: &Line| &line.points);
    let lacking = points().filter(|point| point.verdict.is_none()).count();
    (lacking > 0).then(|| format!("{lacking} of {} points have no verdict.", points().count()))
}

fn chart_of_rates(answer: &Answer<'_>) -> Result<Option<String>, String> {
    let series = |line: &Line| {
        line.points
            .iter()
            .map(|point| {
                let rate = point.verdict.as_ref()?.rate;
                Some(Spot {
                    value: rate.median,
                    spread: Some([rate.lower, rate.upper]),
                })
            })
            .collect()
    };
    let ticks = answer.ticks.iter().map(|&tick| table::tick(tick));
    let crossings = answer.crossings();
    let marks = crossings.iter().flat_map(|crossings| &crossings.at);
    let marks = marks.map(|crossing| Mark {
        place: crossing.place,
        label: format!("cross at {:.2}", crossing.value),
    });
    plot::svg(&Chart {
        x: answer.axis(),
        y: "operations a second",
        ticks: ticks.collect(),
        lines: drawn(answer, series),
        marks: marks.collect(),
    })
}

fn chart_of_times(answer: &Answer<'_>, place: usize) -> Result<Option<String>, String> {
    let series = |line: &Line| {
        let verdict = line.points[place].verdict.as_ref();
        (0..PARTS.len())
            .map(|part| {
                let value = verdict?.nanos[part]?;
                let spread = None;
                Some(Spot { value, spread })
            })
            .collect()
    };
    plot::svg(&Chart {
        x: "part of the operations that took no longer".to_owned(),
        y: "nanoseconds",
        ticks: PARTS.map(table::part).to_vec(),
        lines: drawn(answer, series),
        marks: Vec::new(),
    })
}

fn drawn<'a>(
    answer: &'a Answer<'_>,
    points: impl Fn(&Line) -> Vec<Option<Spot>>,
) -> Vec<Series<'a>> {
    let lines = answer.lines.iter().map(|line| Series {
        name: line.name,
        ours: line.ours,
        points: points(line),
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use latchwork_bench::scenarios;

    use super::*;
    use crate::plan::{Depth, Plan};
    use crate::raw::Cell;

    #[test]
    fn what_was_not_believed_is_said_and_not_drawn() {
        let scenario = scenarios::named("conflicts");
        let cell = Cell {
            scenario: scenario.name.to_owned(),
            threads: 2,
            value: 0.5,
            runs: Vec::new(),
        };
        let answer = Answer::of(&scenario, &[cell], Depth::Quick).expect("there is a cell");
        let head = Head::here(Plan::new(Depth::Quick, None));
        let page = html(&head, &[answer]).expect("it can be drawn");
        assert!(page.contains(scenario.title) && !page.contains("<svg"));
        assert!(page.contains(verdict::NONE));
        let lines = scenario.contenders.len();
        assert!(page.contains(&format!("{lines} of {lines} points have no verdict.")));
        assert_eq!(page.matches(table::NO_VERDICT).count(), 1, "explained once");
    }
}
