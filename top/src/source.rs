//! Where reports come from: this process, or the socket of another one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use latchwork::console::Console;

use crate::report::Report;

/// The longest answer that is read.
const LONGEST: u64 = 64 << 20;
/// How long a server may need.
const PATIENCE: Duration = Duration::from_secs(3);

/// A process that reports.
#[derive(Debug)]
pub enum Source {
    /// This process.
    Own(Console),
    /// The process that listens on a Unix socket.
    Unix(PathBuf),
    /// The process that listens on a port of the loopback address.
    Loopback(u16),
}

impl Source {
    /// Requests a report.
    ///
    /// # Errors
    /// Returns why there is none: the connection, the answer or its format.
    pub fn report(&self) -> Result<Report, String> {
        match self {
            Self::Own(console) => Report::parse(&console.json()),
            Self::Unix(path) => {
                let answer = unix(path);
                body(answer.map_err(|error| format!("{}: {error}", path.display()))?)
            }
            Self::Loopback(port) => {
                let answer = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).and_then(|stream| {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    request(stream)
                });
                body(answer.map_err(|error| format!("port {port}: {error}"))?)
            }
        }
    }

    /// Returns a description.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Own(_) => "own load".to_owned(),
            Self::Unix(path) => path.display().to_string(),
            Self::Loopback(port) => format!("127.0.0.1:{port}"),
        }
    }
}

#[cfg(unix)]
fn unix(path: &std::path::Path) -> io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    request(stream)
}

#[cfg(not(unix))]
fn unix(_: &std::path::Path) -> io::Result<String> {
    Err(ErrorKind::Unsupported.into())
}

fn request(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /json HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    let length = stream.take(LONGEST).read_to_string(&mut answer)?;
    if length as u64 == LONGEST {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(answer)
}

fn body(answer: String) -> Result<Report, String> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("the answer is not complete")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        Report::parse(body)
    } else {
        Err(format!("{status}: {}", body.trim()))
    }
}
