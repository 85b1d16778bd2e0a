//! Reads flights from a CSV file, plain or gzip, and gives every name in them a small number.
//!
//! The file is read whole before it is parsed: the csv crate reports where a record starts as a
//! byte offset that is exact, and a line number that is not (after `\r\n` or blank lines it points
//! too early), so a line number is counted here, from the bytes, when there is an error to report.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// An aircraft that has a tail number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AircraftId(pub(crate) u32);

/// An airport seen as a place of departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OriginId(pub(crate) u32);

/// An airport seen as a place of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DestinationId(pub(crate) u32);

/// One row of the file.
///
/// The distance is a `u32` so that no total can overflow: a run has fewer than 2^32 steps, and as
/// many distances of less than 2^32 fit in a `u64`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) aircraft: Option<AircraftId>,
    pub(crate) origin: OriginId,
    pub(crate) destination: DestinationId,
    pub(crate) distance: u32,
}

/// The most steps that a run may have, see [`Flight`].
pub(crate) const MAX_STEPS: usize = u32::MAX as usize;

/// All flights in the order of the file, and the names behind their ids.
#[derive(Debug, Default)]
pub(crate) struct Dataset {
    pub(crate) flights: Vec<Flight>,
    pub(crate) aircraft: Vec<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) destinations: Vec<String>,
}

/// Why a file could not be read, and where.
#[derive(Debug)]
pub(crate) struct ReadError {
    path: PathBuf,
    line: Option<usize>,
    what: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.what)
    }
}

/// Reads and checks the whole file.
pub(crate) fn read(path: &Path) -> Result<Dataset, ReadError> {
    let error = |line, what| ReadError {
        path: path.to_owned(),
        line,
        what,
    };
    let bytes = load(path).map_err(|(line, what)| error(line, what))?;
    parse(&bytes).map_err(|(offset, what)| error(Some(line_at(&bytes, offset)), what))
}

/// Reads the file and unpacks it if it starts as gzip does; an error comes with the line it was met
/// in, if any was read.
fn load(path: &Path) -> Result<Vec<u8>, (Option<usize>, String)> {
    let unread = |e: io::Error| (None, e.to_string());
    let mut raw = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut raw))
        .map_err(unread)?;
    if !raw.starts_with(&[0x1f, 0x8b]) {
        return Ok(raw);
    }
    let mut bytes = Vec::new();
    match MultiGzDecoder::new(&raw[..]).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(e) => {
            let what = match e.kind() {
                io::ErrorKind::UnexpectedEof => "the gzip data ends too early".to_owned(),
                _ => format!("the gzip data is damaged ({e})"),
            };
            Err((Some(line_at(&bytes, bytes.len())), what))
        }
    }
}

/// Parses the unpacked file; an error comes with the byte offset of its record.
fn parse(bytes: &[u8]) -> Result<Dataset, (usize, String)> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(bytes);
    let mut record = csv::StringRecord::new();
    let mut next = |record: &mut csv::StringRecord| -> Result<Option<usize>, (usize, String)> {
        let start = reader.position().byte() as usize;
        match reader.read_record(record) {
            Ok(more) => Ok(more.then_some(start)),
            Err(e) => Err((start, explain(&e))),
        }
    };

    let Some(header_at) = next(&mut record)? else {
        let what = "the file is empty; expected a header with tailnum, origin, dest and distance";
        return Err((0, what.to_owned()));
    };
    let columns = Columns::find(&record).map_err(|what| (header_at, what))?;
    let mut build = Builder::default();
    while let Some(at) = next(&mut record)? {
        build.row(&columns, &record).map_err(|what| (at, what))?;
    }
    if build.dataset.flights.is_empty() {
        return Err((header_at, "no flights below the header".to_owned()));
    }
    Ok(build.dataset)
}

/// The line of the record that starts at `offset`, counted from one. The offset may lie before line
/// ends that the parser has yet to skip.
fn line_at(bytes: &[u8], offset: usize) -> usize {
    let skipped = bytes[offset..]
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let before = &bytes[..offset + skipped];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn explain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("the row has {len} fields, the header has {expected_len}"),
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("field {} is not valid UTF-8", err.field() + 1)
        }
        _ => error.to_string(),
    }
}

/// Where the four columns stand in this file.
struct Columns {
    tailnum: usize,
    origin: usize,
    dest: usize,
    distance: usize,
}

impl Columns {
    fn find(header: &csv::StringRecord) -> Result<Self, String> {
        let column = |name: &str| {
            let mut found = (0..header.len()).filter(|&i| header[i].trim() == name);
            match (found.next(), found.next()) {
                (Some(only), None) => Ok(only),
                (Some(_), Some(_)) => Err(format!("the header names column `{name}` twice")),
                (None, _) => Err(format!("the header has no column `{name}`")),
            }
        };
        Ok(Self {
            tailnum: column("tailnum")?,
            origin: column("origin")?,
            dest: column("dest")?,
            distance: column("distance")?,
        })
    }
}

#[derive(Default)]
struct Builder {
    dataset: Dataset,
    aircraft: HashMap<String, u32>,
    origins: HashMap<String, u32>,
    destinations: HashMap<String, u32>,
}

impl Builder {
    fn row(&mut self, columns: &Columns, record: &csv::StringRecord) -> Result<(), String> {
        let distance = miles(&record[columns.distance])?;
        let tail = present(&record[columns.tailnum]);
        let origin = present(&record[columns.origin]).ok_or("the origin is missing")?;
        let destination = present(&record[columns.dest]).ok_or("the destination is missing")?;
        let all = &mut self.dataset;
        if all.flights.len() == MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} flights"));
        }
        all.flights.push(Flight {
            aircraft: tail
                .map(|name| AircraftId(intern(&mut self.aircraft, &mut all.aircraft, name))),
            origin: OriginId(intern(&mut self.origins, &mut all.origins, origin)),
            destination: DestinationId(intern(
                &mut self.destinations,
                &mut all.destinations,
                destination,
            )),
            distance,
        });
        Ok(())
    }
}

/// A field without the blanks around it. `NA` is how the data package writes a value that is not
/// known.
fn present(field: &str) -> Option<&str> {
    let field = field.trim();
    (!field.is_empty() && field != "NA").then_some(field)
}

fn miles(field: &str) -> Result<u32, String> {
    let field = field.trim();
    field.parse().map_err(|_| {
        let shown: String = field.chars().take(40).collect();
        format!(
            "the distance `{shown}` is not a whole number of miles from 0 to {}",
            u32::MAX
        )
    })
}

fn intern(ids: &mut HashMap<String, u32>, names: &mut Vec<String>, name: &str) -> u32 {
    if let Some(&id) = ids.get(name) {
        return id;
    }
    // No more names than flights, and those were checked to fit.
    let id = names.len() as u32;
    ids.insert(name.to_owned(), id);
    names.push(name.to_owned());
    id
}
