//! A connection to a node without TLS, which never blocks.
//!
//! A thread writes a request, and reads the replies of several connections as they arrive. So one
//! caller exchanges messages with all nodes, and no other thread takes part [QU8].

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use redis::{Parser, RedisError, RedisResult, Value};

use super::node::{ANSWER_LIMIT, Job};

/// The connection, and the requests that were written to it.
pub(super) struct Wire {
    stream: TcpStream,
    /// Keeps the beginning of a reply that has not arrived in full.
    parser: Parser,
    /// Bytes of requests that the system has not accepted yet, from `written` on.
    unwritten: Vec<u8>,
    written: usize,
    /// The requests without an answer, in the order in which they were written.
    sent: VecDeque<Sent>,
}

struct Sent {
    job: Job,
    replies: Vec<Value>,
    at: Instant,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("sent", &self.sent.len())
            .finish_non_exhaustive()
    }
}

impl Wire {
    /// Makes a connection that does not block of one whose replies were all read.
    pub(super) fn new(stream: TcpStream, parser: Parser) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Wire {
            stream,
            parser,
            unwritten: Vec::new(),
            written: 0,
            sent: VecDeque::new(),
        })
    }

    /// Writes a request behind the earlier ones, as far as the system accepts it.
    ///
    /// After an error, the connection contains the request.
    pub(super) fn send(&mut self, job: Job) -> io::Result<()> {
        let bytes = job.request.bytes();
        let mut accepted = 0;
        let result = match self.unwritten.is_empty() {
            true => write(&self.stream, bytes).map(|count| accepted = count),
            false => Ok(()),
        };
        self.unwritten.extend_from_slice(&bytes[accepted..]);
        self.sent.push_back(Sent {
            replies: Vec::with_capacity(job.request.replies()),
            job,
            at: Instant::now(),
        });
        result
    }

    /// Returns whether nothing is to be written or read.
    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    /// Returns when the first request without an answer was written.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.sent.front().map(|sent| sent.at)
    }

    /// Returns when the node must have answered this request, so that it is not set aside.
    pub(super) fn limit(&self) -> Option<Instant> {
        self.oldest().map(|at| at + ANSWER_LIMIT)
    }

    /// Writes and reads without blocking, and calls `answered` with each request that has all of
    /// its replies.
    pub(super) fn advance(&mut self, mut answered: impl FnMut(Job, Vec<Value>)) -> RedisResult<()> {
        if !self.unwritten.is_empty() {
            self.written += write(&self.stream, &self.unwritten[self.written..])?;
            if self.written == self.unwritten.len() {
                self.unwritten.clear();
                self.written = 0;
            }
        }
        while let Some(sent) = self.sent.front_mut() {
            let reply = match self.parser.parse_value(&self.stream) {
                Ok(reply) => reply,
                Err(error) if error.is_timeout() => return Ok(()),
                Err(error) => return Err(error),
            };
            sent.replies.push(reply);
            if sent.replies.len() < sent.job.request.replies() {
                continue;
            }
            let lacks_script =
                |reply: &Value| matches!(reply, Value::ServerError(e) if e.code() == "NOSCRIPT");
            if sent.replies.iter().any(lacks_script) {
                // A new connection loads the scripts again.
                sent.replies.clear();
                return Err(RedisError::from(io::Error::other(
                    "the node has lost its scripts",
                )));
            }
            if let Some(sent) = self.sent.pop_front() {
                answered(sent.job, sent.replies);
            }
        }
        Ok(())
    }

    /// Ends the connection, and returns the requests without an answer.
    pub(super) fn into_jobs(self) -> VecDeque<Job> {
        self.sent.into_iter().map(|sent| sent.job).collect()
    }
}

/// Writes as many bytes as the system accepts, and returns their number.
fn write(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Waits until a connection can be advanced, or until `limit`. Returns which ones can be.
#[cfg(unix)]
pub(super) fn wait<'a>(wires: impl Iterator<Item = &'a Wire>, limit: Instant) -> Vec<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let events = |wire: &Wire| match wire.unwritten.is_empty() {
        true => PollFlags::IN,
        false => PollFlags::IN | PollFlags::OUT,
    };
    let mut all: Vec<PollFd<'a>> = wires
        .map(|wire| PollFd::new(&wire.stream, events(wire)))
        .collect();
    let left = limit.saturating_duration_since(Instant::now());
    // A longer wait is repeated by the caller.
    let left = left.min(Duration::from_secs(3600));
    let left = Timespec {
        tv_sec: left.as_secs() as _,
        tv_nsec: left.subsec_nanos() as _,
    };
    // An error is a signal. The caller waits again until its limit.
    let _ = poll(&mut all, Some(&left));
    all.iter().map(|one| !one.revents().is_empty()).collect()
}

/// Elsewhere no connection of this kind is made: see [`IS_AVAILABLE`].
#[cfg(not(unix))]
pub(super) fn wait<'a>(wires: impl Iterator<Item = &'a Wire>, limit: Instant) -> Vec<bool> {
    let pause = limit.saturating_duration_since(Instant::now());
    std::thread::sleep(pause.min(Duration::from_millis(1)));
    wires.map(|_| true).collect()
}

/// Whether a thread can wait for several connections.
pub(super) const IS_AVAILABLE: bool = cfg!(unix);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::super::answers::Answers;
    use super::super::node::Packed;
    use super::*;

    fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (Wire::new(stream, Parser::new()).unwrap(), server)
    }

    /// A request of as many commands as it expects replies, whose place is its number.
    fn job(number: usize, replies: usize) -> Job {
        let mut packed = Packed::default();
        for _ in 0..replies {
            packed = packed.command(&[b"PING"]);
        }
        let answers = Arc::new(Answers::new(16, 1));
        let deadline = Instant::now() + Duration::from_secs(60);
        Job::new(Arc::new(packed), deadline, answers, number)
    }

    /// Advances until so many requests were answered, and returns their places and replies.
    fn answers(wire: &mut Wire, count: usize) -> Vec<(usize, Vec<Value>)> {
        let (mut all, end) = (Vec::new(), Instant::now() + Duration::from_secs(20));
        while all.len() < count {
            assert!(wait([&*wire].into_iter(), end)[0], "no answer");
            wire.advance(|job, replies| all.push((job.place, replies)))
                .unwrap();
        }
        all
    }

    #[test]
    fn replies_that_arrive_in_parts_answer_requests_in_their_order() {
        let (mut wire, mut server) = pair();
        wire.send(job(1, 2)).unwrap();
        wire.send(job(2, 1)).unwrap();
        assert!(!wire.is_idle() && wire.limit().is_some());
        let replies = b":1\r\n$5\r\nhello\r\n*2\r\n:3\r\n:4\r\n";
        let mut all = Vec::new();
        for (sent, byte) in replies.iter().enumerate() {
            assert_eq!(all.len(), usize::from(sent > 14), "after {sent} bytes");
            server.write_all(&[*byte]).unwrap();
            let end = Instant::now() + Duration::from_secs(20);
            assert!(wait([&wire].into_iter(), end)[0]);
            wire.advance(|job, replies| all.push((job.place, replies)))
                .unwrap();
        }
        let hello = Value::BulkString(b"hello".to_vec());
        let pair = Value::Array(vec![Value::Int(3), Value::Int(4)]);
        assert_eq!(all, [(1, vec![Value::Int(1), hello]), (2, vec![pair])]);
        assert!(wire.is_idle());
        let soon = Instant::now() + Duration::from_millis(10);
        assert_eq!(wait([&wire].into_iter(), soon), [false], "nothing arrives");
    }

    #[test]
    fn a_request_that_the_system_does_not_accept_at_once_is_written_later() {
        let (mut wire, mut server) = pair();
        let words = vec![b'x'; 16 << 20];
        let packed = Packed::default().command(&[&words]);
        let size = packed.bytes().len();
        let answers_ = Arc::new(Answers::new(1, 1));
        let deadline = Instant::now() + Duration::from_secs(60);
        wire.send(Job::new(Arc::new(packed), deadline, answers_, 0))
            .unwrap();
        assert!(!wire.unwritten.is_empty(), "the system accepted it at once");
        wire.send(job(1, 1)).unwrap();
        let rest = size + job(1, 1).request.bytes().len();
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; rest];
            server.read_exact(&mut bytes).unwrap();
            server.write_all(b"+OK\r\n+PONG\r\n").unwrap();
            server
        });
        let all = answers(&mut wire, 2);
        assert_eq!(all[1], (1, vec![Value::SimpleString("PONG".to_owned())]));
        drop(reader.join().unwrap());
    }

    #[test]
    fn requests_without_an_answer_remain_if_the_connection_ends() {
        let (mut wire, mut server) = pair();
        (0..3).for_each(|number| wire.send(job(number, 1)).unwrap());
        server.write_all(b":7\r\n$5\r\nhel").unwrap();
        assert_eq!(answers(&mut wire, 1), [(0, vec![Value::Int(7)])]);
        drop(server);
        let end = Instant::now() + Duration::from_secs(20);
        let error = loop {
            assert!(wait([&wire].into_iter(), end)[0], "the end is not detected");
            if let Err(error) = wire.advance(|job, _| panic!("request {}", job.place)) {
                break error;
            }
        };
        assert!(!error.is_timeout(), "{error}");
        let left: Vec<usize> = wire.into_jobs().iter().map(|job| job.place).collect();
        assert_eq!(left, [1, 2]);
    }

    #[test]
    fn a_request_whose_script_is_missing_remains() {
        let (mut wire, mut server) = pair();
        wire.send(job(4, 2)).unwrap();
        server.write_all(b"-NOSCRIPT none\r\n:1\r\n").unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let error = loop {
            assert!(wait([&wire].into_iter(), end)[0]);
            if let Err(error) = wire.advance(|_, _| panic!("it is answered")) {
                break error;
            }
        };
        assert!(error.to_string().contains("scripts"), "{error}");
        assert_eq!(wire.into_jobs().len(), 1);
    }
}
