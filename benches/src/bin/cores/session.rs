//! The command line, and the runs that it asks for.

use std::path::PathBuf;
use std::process::Command;

use crate::coherence::MOST_CORES;
use crate::machine::{self, Plan, Run};
use crate::programs::{self, ALL, Program};
use crate::render;
use crate::tracee::stay_on_one_processor;

const USAGE: &str = "\
usage: cores [--times N] [--cores N,N] [--only TEXT [--of TEXT] [--where N] [--add FILE]] [--write FILE]
  --times N     runs that are so many times as long, and more exact
  --only TEXT   the questions whose titles contain it
  --of TEXT     only the structures whose names contain it
  --where N     also say of each structure which N places in the code miss most, and which had taken the lines away
  --cores N,N   these numbers of cores; the first is what operations are counted on by themselves
  --add FILE    also put their tables into FILE in the place of those that are there
  --write FILE  also write the tables to FILE; not with --only or --cores";

/// The argument that makes this program the traced one: the question, the structure and the cores
/// follow.
const INSIDE: &str = "--inside";

/// The default numbers of cores.
const CORES: [usize; 4] = [1, 4, 16, 64];

/// Steps of a run: so many, and so many more for each core.
const STEPS: (u64, u64) = (10_000, 500);

/// Operations of each core that are worth more than a guess.
const OPERATIONS: u64 = 8;

#[derive(Debug)]
struct Options {
    only: Option<String>,
    of: Option<String>,
    places: usize,
    cores: Option<Vec<usize>>,
    times: u64,
    add: Option<PathBuf>,
    write: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            only: None,
            of: None,
            places: 0,
            cores: None,
            times: 1,
            add: None,
            write: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--times" => {
                    let times = value()?.parse();
                    options.times = times.map_err(|error| format!("{argument}: {error}"))?;
                }
                "--only" => options.only = Some(value()?),
                "--of" => options.of = Some(value()?),
                "--where" => {
                    let places = value()?.parse();
                    options.places = places.map_err(|error| format!("{argument}: {error}"))?;
                }
                "--cores" => options.cores = Some(cores(&value()?)?),
                "--add" => options.add = Some(value()?.into()),
                "--write" => options.write = Some(value()?.into()),
                _ => return Err(format!("{argument} is not an option")),
            }
        }
        if options.write.is_some() && (options.only.is_some() || options.cores.is_some()) {
            return Err("tables in part are not worth keeping".to_owned());
        }
        if options.add.is_some() && (options.only.is_none() || options.cores.is_some()) {
            return Err("--add goes with --only, and not with --cores".to_owned());
        }
        if options.of.is_some() && (options.write.is_some() || options.add.is_some()) {
            return Err("tables in part are not worth keeping".to_owned());
        }
        Ok(options)
    }
}

fn cores(list: &str) -> Result<Vec<usize>, String> {
    let numbers = list.split(',').map(|number| number.trim().parse());
    let numbers: Vec<usize> = numbers
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{list}: {error}"))?;
    if numbers
        .iter()
        .all(|number| (1..=MOST_CORES).contains(number))
    {
        Ok(numbers)
    } else {
        Err(format!("from 1 to {MOST_CORES} cores"))
    }
}

/// Executes the request of the command line.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let arguments: Vec<String> = arguments.collect();
    if let [INSIDE, place @ ..] = &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return inside(place);
    }
    let options =
        Options::parse(arguments.into_iter()).map_err(|error| format!("{error}\n{USAGE}"))?;
    stay_on_one_processor()?;
    let cores = options.cores.as_deref().unwrap_or(&CORES);
    let times = options.times;
    let mut answers = Vec::new();
    let nothing = count(0, 0, cores[0], times, false)?.counts;
    for (number, question) in ALL.iter().enumerate() {
        if options
            .only
            .as_ref()
            .is_some_and(|only| !question.title.contains(only))
        {
            continue;
        }
        eprintln!("{}", question.title);
        let mut rows = Vec::new();
        for (place, program) in question.programs.iter().enumerate() {
            let is_meant = |of: &String| program.name.contains(of);
            if !options.of.as_ref().is_none_or(is_meant) {
                continue;
            }
            eprintln!("  {}", program.name);
            let mut counts = Vec::new();
            for cores in cores {
                let run = count(number, place, *cores, times, options.places > 0)
                    .map_err(|error| format!("{} on {cores} cores: {error}", program.name))?;
                if let Some(blame) = &run.blame {
                    println!("{} on {cores} cores:", program.name);
                    print!("{}", render::places(blame, &run, options.places)?);
                }
                counts.push(run.counts);
            }
            rows.push((program.name, counts));
        }
        answers.push((*question, rows));
    }
    if answers.is_empty() {
        return Err("no title contains that".to_owned());
    }
    let sections: Vec<_> = answers
        .iter()
        .map(|(question, rows)| render::section(question, rows, cores, &nothing, times))
        .collect();
    let all = render::all(cores, &sections);
    println!("{all}");
    let (file, text) = match (options.write, options.add) {
        (Some(file), _) => (file, Ok(all)),
        (None, Some(file)) => {
            let old = std::fs::read_to_string(&file);
            (file, old.map(|old| render::added(old, &sections)))
        }
        (None, None) => return Ok(()),
    };
    text.and_then(|text| std::fs::write(&file, text))
        .map_err(|error| format!("{}: {error}", file.display()))
}

/// Runs one structure under one workload on so many virtual cores.
fn count(
    question: usize,
    place: usize,
    cores: usize,
    times: u64,
    blame: bool,
) -> Result<Run, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let mut program = Command::new(program);
    program.args([
        INSIDE,
        &question.to_string(),
        &place.to_string(),
        &cores.to_string(),
    ]);
    let (at_least, each) = STEPS;
    let steps = times * (at_least + each * cores as u64);
    let operations = OPERATIONS * cores as u64;
    machine::run(
        program,
        Plan {
            cores,
            steps,
            operations,
            blame,
        },
    )
}

/// Becomes the program that is traced.
fn inside(place: &[&str]) -> Result<(), String> {
    let numbers = place.iter().map(|number| number.parse().ok());
    let Some([question, place, cores]) = numbers
        .collect::<Option<Vec<usize>>>()
        .and_then(|numbers| <[usize; 3]>::try_from(numbers).ok())
    else {
        return Err(format!("{INSIDE} is for this program itself"));
    };
    let program: Option<&Program> = ALL
        .get(question)
        .and_then(|question| question.programs.get(place));
    programs::run(program.ok_or("there is no such program")?, cores as u64)
}
