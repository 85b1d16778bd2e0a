//! A server: one thread that accepts connections, and a short-lived thread for each client.

use core::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::fd::OwnedFd;
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::reports::Console;
use super::request::{self, Answer, LONGEST, Transport};
#[cfg(unix)]
use super::socket_file::{self, SocketFile};
use crate::sync::{Mutex, nap, now};

/// The number of clients that are served at once.
const CLIENTS: usize = 8;
/// How long a client may need to send its request, and again to receive the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the drop of a server waits for its thread.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves the reports of a [`Console`] until it is dropped.
///
/// A server has one thread, and one more for each client, which ends with the answer. The requests
/// are those of HTTP/1.1: `GET /json` and `GET /metrics`.
///
/// # Clients
/// At most 8 clients are served at once; further clients receive status 503 at once. A client has
/// one second for its request and one for the answer. Then the connection is closed, so a slow
/// client never delays the program. The head of a request may have 4,096 bytes. A request that the
/// server does not understand receives a status from 400 to 431.
///
/// # Fork
/// In the child of a fork the server does not run, because its thread exists in the parent only.
/// The child may drop its copy of the `Server`; the parent continues to serve. Until the child
/// calls `exec` or ends, its copy of the listening socket keeps the address in use.
///
/// # Examples
/// ```
/// # #[cfg(unix)]
/// # fn main() -> std::io::Result<()> {
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use latchwork::console::Console;
///
/// # let folder = std::env::temp_dir();
/// let path = folder.join(format!("latchwork-{}.sock", std::process::id()));
/// let server = Console::new().serve_unix(&path)?;
/// let mut client = UnixStream::connect(&path)?;
/// client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.contains("latchwork_garbage_values"));
/// drop(server); // removes the socket
/// assert!(!path.exists());
/// # Ok(())
/// # }
/// # #[cfg(not(unix))]
/// # fn main() {}
/// ```
#[must_use = "the server ends when it is dropped"]
pub struct Server {
    address: Address,
    /// The process that made it. A child of a fork has a copy.
    process: u32,
    stopped: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
    /// The listening socket, as a stream that can be shut down. On Linux this ends a wait in
    /// `accept`.
    #[cfg(unix)]
    listening: TcpStream,
}

#[derive(Debug)]
enum Address {
    #[cfg(unix)]
    File(SocketFile),
    Loopback(SocketAddr),
}

impl Console {
    /// Serves reports on a Unix socket at `path`, which only the same user and the superuser can
    /// connect to: its mode is 0600.
    ///
    /// A socket at `path` on which no process listens is replaced. Two processes must not replace
    /// one socket at the same time. The drop of the server removes the socket.
    ///
    /// # Blocking
    /// Blocks only briefly. Starts a thread.
    ///
    /// # Errors
    /// Returns [`ErrorKind::AddrInUse`] if a process listens on `path`, and
    /// [`ErrorKind::AlreadyExists`] if there is a file that is not a socket. The folder must permit
    /// to make files and folders. The path must be shorter than the longest address of a socket by
    /// at least 20 bytes. Returns other errors of the system otherwise.
    #[cfg(unix)]
    pub fn serve_unix(&self, path: impl AsRef<Path>) -> io::Result<Server> {
        let (listener, file) = socket_file::bind(path.as_ref())?;
        let listening = OwnedFd::from(listener.try_clone()?);
        Server::start(self, listener, Address::File(file), listening)
    }

    /// Serves reports on a port of the loopback address 127.0.0.1. With port 0 the system chooses a
    /// port, which [`Server::port`] returns.
    ///
    /// Every process of the machine can connect, whichever user runs it. A request whose `Host` is
    /// not a loopback address receives status 403, so that no site can read reports through a
    /// browser on this machine.
    ///
    /// # Blocking
    /// Blocks only briefly. Starts a thread.
    ///
    /// # Errors
    /// Returns [`ErrorKind::AddrInUse`] if the port is in use, and other errors of the system.
    pub fn serve_loopback(&self, port: u16) -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = Address::Loopback(listener.local_addr()?);
        #[cfg(unix)]
        let listening = OwnedFd::from(listener.try_clone()?);
        Server::start(
            self,
            listener,
            address,
            #[cfg(unix)]
            listening,
        )
    }
}

impl Server {
    fn start<L: Listener>(
        console: &Console,
        listener: L,
        address: Address,
        #[cfg(unix)] listening: OwnedFd,
    ) -> io::Result<Self> {
        let stopped = Arc::new(Mutex::new(false));
        let console = Arc::new(console.clone());
        let stop = Arc::clone(&stopped);
        let thread = named_thread(move || accept_all(&listener, &console, &stop))?;
        Ok(Server {
            address,
            process: std::process::id(),
            stopped,
            thread: Some(thread),
            #[cfg(unix)]
            listening: TcpStream::from(listening),
        })
    }

    /// Returns the port, or `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match &self.address {
            #[cfg(unix)]
            Address::File(_) => None,
            Address::Loopback(address) => Some(address.port()),
        }
    }

    /// Ends a wait of the thread in `accept`: at once on Linux, and by a connection elsewhere.
    fn wake(&self) {
        #[cfg(unix)]
        let _ = self.listening.shutdown(Shutdown::Both);
        match &self.address {
            #[cfg(unix)]
            Address::File(file) => drop(UnixStream::connect(file.path())),
            Address::Loopback(address) => drop(TcpStream::connect_timeout(address, FAREWELL)),
        }
    }
}

/// Ends the server. Waits for its thread, at most for a second. Threads of clients that are being
/// served end within two seconds.
impl Drop for Server {
    fn drop(&mut self) {
        let thread = self.thread.take();
        if std::process::id() != self.process {
            // A thread of the parent: it can be neither joined nor detached here.
            core::mem::forget(thread);
            return;
        }
        *self.stopped.lock() = true;
        self.wake();
        let until = now() + FAREWELL;
        let Some(thread) = thread else { return };
        while !thread.is_finished() {
            if now() >= until {
                return;
            }
            nap();
        }
        let _ = thread.join();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A listening socket of either kind.
trait Listener: Send + 'static {
    const TRANSPORT: Transport;
    type Stream: Stream;
    fn next(&self) -> io::Result<Self::Stream>;
}

/// A connection of either kind.
trait Stream: Read + Write + Send + 'static {
    /// Sets how long a read or a write may wait.
    fn may_wait(&self, time: Duration) -> io::Result<()>;
    fn never_waits(&self) -> io::Result<()>;
    fn end_of_answer(&self) -> io::Result<()>;
}

macro_rules! sockets {
    ($listener:ty, $stream:ty, $transport:expr) => {
        impl Listener for $listener {
            const TRANSPORT: Transport = $transport;
            type Stream = $stream;

            fn next(&self) -> io::Result<$stream> {
                Ok(self.accept()?.0)
            }
        }

        impl Stream for $stream {
            fn may_wait(&self, time: Duration) -> io::Result<()> {
                self.set_read_timeout(Some(time))?;
                self.set_write_timeout(Some(time))
            }

            fn never_waits(&self) -> io::Result<()> {
                self.set_nonblocking(true)
            }

            fn end_of_answer(&self) -> io::Result<()> {
                self.shutdown(Shutdown::Write)
            }
        }
    };
}

sockets!(TcpListener, TcpStream, Transport::Loopback);
#[cfg(unix)]
sockets!(UnixListener, UnixStream, Transport::File);

fn named_thread(f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let builder = thread::Builder::new().name("latchwork-console".to_owned());
    builder.spawn(f)
}

fn accept_all<L: Listener>(listener: &L, console: &Arc<Console>, stopped: &Mutex<bool>) {
    // Each thread of a client has a clone.
    let served = Arc::new(());
    while !*stopped.lock() {
        match listener.next() {
            Ok(stream) if Arc::strong_count(&served) > CLIENTS => refuse(stream),
            Ok(stream) => {
                let (console, served) = (Arc::clone(console), Arc::clone(&served));
                // Without a thread, the connection is closed. An error of the connection needs no
                // report: the client has the same error.
                drop(named_thread(move || {
                    let _ = serve(stream, L::TRANSPORT, &console);
                    drop(served);
                }));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Shut down, or out of descriptors: these are free again when clients have ended.
            Err(_) if *stopped.lock() => {}
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Answers without a wait: the buffer of a new connection has room for the answer.
fn refuse<S: Stream>(mut stream: S) {
    if stream.never_waits().is_ok() {
        // A request that is left unread resets the connection, and the client loses the answer.
        let _ = stream.read(&mut [0; LONGEST]);
        let _ = stream.write(&Answer::too_many().bytes());
    }
}

fn serve<S: Stream>(mut stream: S, transport: Transport, console: &Console) -> io::Result<()> {
    let mut head = Vec::new();
    let answer = match read_head(&mut stream, &mut head)? {
        Head::Whole => request::answer(&head, transport, console),
        Head::TooLong => Answer::too_long(),
        Head::TooSlow => Answer::too_slow(),
        Head::Closed => return Ok(()),
    };
    write_all(&mut stream, &answer.bytes())?;
    stream.end_of_answer()?;
    // Reads the rest of the request, for the reason in `refuse`.
    stream.never_waits()?;
    let mut rest = [0; LONGEST];
    for _ in 0..16 {
        if stream.read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

/// The outcome of reading the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Whole,
    TooLong,
    TooSlow,
    Closed,
}

/// Reads until the head is whole. One deadline applies to all reads, so a client that sends one
/// byte at a time has no more time than others.
fn read_head<S: Stream>(stream: &mut S, head: &mut Vec<u8>) -> io::Result<Head> {
    let deadline = now() + PATIENCE;
    let mut part = [0; 512];
    while !request::is_whole(head) {
        if head.len() >= LONGEST {
            return Ok(Head::TooLong);
        }
        let Some(left) = left(deadline) else {
            return Ok(Head::TooSlow);
        };
        stream.may_wait(left)?;
        match stream.read(&mut part) {
            Ok(0) => return Ok(Head::Closed),
            Ok(n) => head.extend_from_slice(&part[..n]),
            Err(error) if is_timeout(&error) => return Ok(Head::TooSlow),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Head::Whole)
}

/// Writes all bytes. One deadline applies to all writes.
fn write_all<S: Stream>(stream: &mut S, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = now() + PATIENCE;
    while !bytes.is_empty() {
        stream.may_wait(left(deadline).ok_or(ErrorKind::TimedOut)?)?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns the time until the deadline, or `None` if it has passed. The system has no timeout of
/// zero.
fn left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(now());
    (left >= Duration::from_micros(1)).then_some(left)
}

/// The system reports a timeout in one of two ways.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
