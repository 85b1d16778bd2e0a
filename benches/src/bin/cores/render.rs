//! The tables as Markdown, with the limits of the model.

use std::collections::HashMap;
use std::fmt::Write;

use latchwork_bench::machine::{Machine, peers_in_words};

use crate::blame::Blame;
use crate::coherence::Access;
use crate::machine::{Counts, Run};
use crate::places::Places;
use crate::programs::Question;

/// The counts of each structure of a question, for each number of cores.
pub(crate) type Rows = Vec<(&'static str, Vec<Counts>)>;

/// The tables of all questions.
pub(crate) fn all(cores: &[usize], sections: &[String]) -> String {
    format!("{}{}", head(cores), sections.concat())
}

/// Inserts sections into `text`, in the place of those of the same title or at the end.
pub(crate) fn added(mut text: String, sections: &[String]) -> String {
    for section in sections {
        let title = section.lines().find(|line| !line.is_empty());
        let begin = format!("\n{}\n", title.unwrap_or_default());
        match text.find(&begin) {
            Some(at) => {
                let length = text[at + 1..].find("\n## ").map(|length| length + 1);
                let end = length.map_or(text.len(), |length| at + length);
                text.replace_range(at..end, section);
            }
            None => text.push_str(section),
        }
    }
    text
}

/// The table of one question. `nothing` is what the loop costs by itself.
pub(crate) fn section(
    question: &Question,
    rows: &Rows,
    cores: &[usize],
    nothing: &Counts,
    times: u64,
) -> String {
    let list = cores.iter().map(usize::to_string).collect::<Vec<_>>();
    let list = list.join(" / ");
    let last = cores.last().copied().unwrap_or(1);
    let mut text = format!(
        "\n## {}\n\n{}\n\n\
         | structure | instructions | RMWs | fences | shared lines written | misses on {list} cores | ownership requests on {list} cores | sleeps on {last} |\n\
         |---|--:|--:|--:|--:|---|---|--:|\n",
        question.title, question.text,
    );
    for (name, counts) in rows {
        let _ = writeln!(text, "{}", row(name, cores, counts, nothing));
    }
    let _ = writeln!(
        text,
        "\n*Limits: caches that never run full; every transfer equally long; no thread is \
         preempted; one instruction a cycle, in order, with neither prefetching nor store buffers. Runs: `--times {times}`.*",
    );
    text
}

/// The `most` places in the code that miss most, with the code that removed the lines most often.
pub(crate) fn places(blame: &Blame, run: &Run, most: usize) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let mut names = Places::of(&run.maps, &program.to_string_lossy())?;
    let mut places: HashMap<_, Place> = HashMap::new();
    for (miss, number) in &blame.misses {
        let taken_by = miss.taken_by.map(|at| names.name(at).to_owned());
        let key = (names.name(miss.at).to_owned(), miss.access == Access::Write);
        let place = places.entry(key).or_default();
        place.misses += number;
        place.of_other_bytes += if miss.other_bytes { *number } else { 0 };
        *place.taken_by.entry(taken_by).or_default() += number;
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by(|(a, x), (b, y)| (y.misses, a).cmp(&(x.misses, b)));
    let mut text = String::new();
    for ((name, is_write), place) in places.into_iter().take(most) {
        let by = place.taken_by.iter().max_by_key(|(by, n)| (**n, *by));
        let by = by.and_then(|(by, _)| by.as_deref());
        let _ = writeln!(
            text,
            "  {:9.3} {} at {name}\n            {:.0}% for the sake of other bytes; taken most often by {}",
            place.misses as f64 / run.counts.operations as f64,
            if is_write { "writes" } else { "reads" },
            100.0 * place.of_other_bytes as f64 / place.misses as f64,
            by.unwrap_or("nobody"),
        );
    }
    Ok(text)
}

#[derive(Default)]
struct Place {
    misses: u64,
    /// The misses of a line of which no other core had accessed the requested bytes.
    of_other_bytes: u64,
    taken_by: HashMap<Option<String>, u64>,
}

fn head(cores: &[usize]) -> String {
    let list = cores.iter().map(usize::to_string).collect::<Vec<_>>();
    format!(
        "# On more cores than there are

Written by `cargo run --release -p latchwork-bench --bin cores -- --times 4 --write benches/CORES.md`, or question by question with `--only TITLE
--add benches/CORES.md`; edit the generator, not this file.

Compiler: {}. Peers: {}.

The compiled programs, with all their libraries, run on {} virtual cores: each thread is stepped one instruction at a time,
always the one with the earliest clock, and each access to memory is charged by a table of cache lines of 64 bytes (modified, shared,
invalid). A core that needs a line of another core waits for it, while the other core continues to use it; more cores that need it queue.
Threads park and are woken as by the system, but by the clock of the table. All numbers are for one operation, on average.

- *Instructions, RMWs, fences*: on the first number of cores, without the loop around the operation; RMWs are atomic read-modify-writes.
- *Shared lines written*: different lines that the operation writes and that another core accesses also, on the last number of cores.
- *Misses*: all accesses to lines that the core did not have and another had; *ownership requests*: those of them that were writes. They
  cost time with many cores, and a count of them shows the order of two structures, and whether a number grows with the cores. The first read of a
  line that no core has written is no miss: the line would be in the cache before the count.
- *Sleeps*: calls that park the thread.
- `~`: counted over fewer operations than there are cores, and only a hint. A dash: no operation had ended.

The model omits the size of caches, so that a structure with more lines appears better than it is; distance, since each transfer lasts
180 cycles; preemption, which delays queues; and the writes of the system as it parks and wakes threads. Code is
always in the cache. The clock decides which core runs next and so which core wins a race. It is not published: it does not predict nanoseconds. The model was
compared with results that are known in advance (*Control*), and not with a machine of so many cores.
Some work happens once in a hundred operations. Cores begin at different points of that cycle, so that some do it while they are counted: a number below 1
is less exact than its digits.
Hashers are seeded anew in each run, and which keys share a line differs with them, in the second digit of a number.
",
        Machine::here().rustc,
        peers_in_words(),
        list.join(", "),
    )
}

fn row(name: &str, cores: &[usize], counts: &[Counts], nothing: &Counts) -> String {
    let runs: Vec<_> = cores.iter().zip(counts).collect();
    let on = |number: fn(&Counts) -> u64, run: Option<&(&usize, &Counts)>| {
        run.map_or_else(String::new, |(cores, counts)| {
            short(number(counts), counts, **cores)
        })
    };
    let each = |number: fn(&Counts) -> u64| {
        let numbers = runs.iter().map(|run| on(number, Some(run)));
        numbers.collect::<Vec<_>>().join(" / ")
    };
    let (first, last) = (runs.first(), runs.last());
    let instructions = |counts: &Counts| counts.instructions as f64 / counts.operations as f64;
    let around = instructions(nothing);
    format!(
        "| {name} | {:.0} | {} | {} | {} | {} | {} | {} |",
        first.map_or(0.0, |(_, counts)| instructions(counts) - around),
        on(|c| c.rmws, first),
        on(|c| c.fences, first),
        on(|c| c.shared_lines_written, last),
        each(|c| c.traffic.read_misses + c.traffic.ownership_requests),
        each(|c| c.traffic.ownership_requests),
        on(|c| c.sleeps, last),
    )
}

/// So many for each operation: three digits at most, none for nothing, and a mark where it is no
/// more than a hint.
fn short(number: u64, counts: &Counts, cores: usize) -> String {
    if counts.operations == 0 {
        return "-".to_owned();
    }
    let mark = if counts.operations < cores as u64 {
        "~"
    } else {
        ""
    };
    match number as f64 / counts.operations as f64 {
        0.0 => "0".to_owned(),
        n if n < 0.01 => "<0.01".to_owned(),
        n if n < 10.0 => format!("{mark}{n:.2}"),
        n if n < 100.0 => format!("{mark}{n:.1}"),
        n => format!("{mark}{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::added;

    #[test]
    fn a_section_takes_the_place_of_its_own() {
        let text = "# H\n\n## A\n\na\n\n## B\n\nb\n".to_owned();
        let first = added(text.clone(), &["\n## A\n\nnew\n".to_owned()]);
        assert_eq!(first, "# H\n\n## A\n\nnew\n\n## B\n\nb\n");
        let last = added(text.clone(), &["\n## B\n\nnew\n".to_owned()]);
        assert_eq!(last, "# H\n\n## A\n\na\n\n## B\n\nnew\n");
        let more = added(text.clone(), &["\n## C\n\nc\n".to_owned()]);
        assert_eq!(more, format!("{text}\n## C\n\nc\n"));
    }
}
