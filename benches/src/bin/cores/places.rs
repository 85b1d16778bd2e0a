//! Places in the code by the names that programmers give them.

use std::collections::HashMap;

use addr2line::Loader;

/// Where the code of a process lies.
pub(crate) struct Places {
    /// Beginning, end and file of each mapping of a file.
    mappings: Vec<(u64, u64, String)>,
    program: String,
    symbols: Loader,
    names: HashMap<u64, String>,
}

impl Places {
    /// `maps` is the system's report on the memory of the process that runs `program`.
    pub(crate) fn of(maps: &str, program: &str) -> Result<Self, String> {
        let symbols = Loader::new(program).map_err(|error| format!("{program}: {error}"))?;
        Ok(Self {
            mappings: maps.lines().filter_map(mapping).collect(),
            program: program.to_owned(),
            symbols,
            names: HashMap::new(),
        })
    }

    /// The functions that `address` is inlined into, from the inside, without those of the standard
    /// library; of a library its name.
    pub(crate) fn name(&mut self, address: u64) -> &str {
        if !self.names.contains_key(&address) {
            let name = self.look_up(address);
            self.names.insert(address, name);
        }
        &self.names[&address]
    }

    fn look_up(&self, address: u64) -> String {
        let inside = |(begin, end, _): &&(u64, u64, String)| (*begin..*end).contains(&address);
        let Some((_, _, file)) = self.mappings.iter().find(inside) else {
            return "code of no file".to_owned();
        };
        if *file != self.program {
            return tail(file, 1).to_owned();
        }
        let first = self.mappings.iter().find(|(_, _, other)| other == file);
        let base = first.map_or(0, |(begin, _, _)| *begin);
        let mut chain = Vec::new();
        if let Ok(mut frames) = self.symbols.find_frames(address - base) {
            while let Ok(Some(frame)) = frames.next() {
                let function = frame.function.as_ref();
                let function = function.and_then(|f| Some(short(&f.demangle().ok()?)));
                let place = frame.location.and_then(|l| Some((l.file?, l.line?)));
                let Some((file, line)) = place else { continue };
                if !file.contains("/rustc/") && !file.contains("/library/") {
                    // A build with line tables only has no names of functions.
                    let function = function.map_or(String::new(), |function| function + " ");
                    chain.push(format!("{function}{}:{line}", tail(file, 3)));
                }
            }
        }
        chain.truncate(FRAMES);
        if chain.is_empty() {
            return "the standard library".to_owned();
        }
        chain.join(" < ")
    }
}

/// Functions that a place is named by.
const FRAMES: usize = 3;

fn mapping(line: &str) -> Option<(u64, u64, String)> {
    let mut words = line.split_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(begin)?, number(end)?, words.nth(4)?.to_owned()))
}

/// The last `parts` of a path.
fn tail(path: &str, parts: usize) -> &str {
    let cut = path.rmatch_indices('/').nth(parts - 1);
    cut.map_or(path, |(at, _)| &path[at + 1..])
}

/// The path of a function without its generic arguments: its type and its own name.
fn short(function: &str) -> String {
    let mut depth = 0_u32;
    let mut plain = String::new();
    for letter in function.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    let parts: Vec<_> = plain.split("::").filter(|part| !part.is_empty()).collect();
    parts[parts.len().saturating_sub(2)..].join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        assert_eq!(short("a::b::C<d::E>::f"), "C::f");
        assert_eq!(short("f"), "f");
        assert_eq!(tail("/a/b/c.rs", 2), "b/c.rs");
        assert_eq!(tail("c.rs", 2), "c.rs");
    }

    #[test]
    fn a_function_of_this_program_is_found() {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux says it");
        let program = std::env::current_exe().expect("it has a path");
        let program = program.to_str().expect("it is text");
        let mut places = Places::of(&maps, program).expect("it has symbols");
        let name = places.name(a_function_of_this_program_is_found as fn() as usize as u64);
        assert!(name.contains("places.rs"), "{name}");
    }
}
