//! How the server of each engine is started, and when it is ready.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::{self, agent, post};
use crate::installed::EtcdMember;
use crate::network::{Network, run};
use crate::servers::{Kind, POSTGRES, Server, Servers, is_root, text};

impl Servers {
    pub(crate) fn init_postgres(&self) -> Result<(), String> {
        let folder = &self.servers[0].folder;
        let path = folder.display().to_string();
        let programs = self.programs.postgres.clone().unwrap_or_default();
        if is_root() {
            run(&["chown", POSTGRES, &path])?;
        }
        let data = folder.join("data").display().to_string();
        let initdb = programs.join("initdb").display().to_string();
        let mut words = Vec::new();
        if is_root() {
            words.extend([
                "setpriv",
                "--reuid",
                POSTGRES,
                "--regid",
                POSTGRES,
                "--init-groups",
            ]);
        }
        words.extend([initdb.as_str(), "-D", &data, "-A", "trust", "-U", POSTGRES]);
        // Small segments, so that a full disk is detected soon.
        words.extend(["--no-sync", "-E", "UTF8", "--locale=C", "--wal-segsize=1"]);
        run(&words)
    }

    /// Starts the process of a server.
    pub(crate) fn spawn(&mut self, at: usize, network: &Network) -> Result<(), String> {
        if self.kind == Kind::Sqlite {
            return Ok(());
        }
        let server = &self.servers[at];
        let address = network.host(server.host).address.clone();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("log{at}")))
            .map_err(text)?;
        let user = (self.kind == Kind::Postgres && is_root()).then_some(POSTGRES);
        let signal = if self.kind == Kind::Postgres {
            "QUIT"
        } else {
            "KILL"
        };
        let mut command = network.command(server.host, user, signal);
        let library = self.programs.clock.as_ref();
        let library = library.filter(|_| self.has_clocks && self.kind != Kind::Etcd);
        if let Some(library) = library {
            command.arg("env");
            command.arg(format!("LD_PRELOAD={}", library.display()));
            let file = self.clock_file(at);
            command.arg(format!("SERVER_CLOCK={}", file.display()));
        }
        let [port, peer] = server.ports;
        match self.kind {
            Kind::Etcd => self.etcd(&mut command, at, network),
            Kind::Quorum => {
                command.arg(&self.programs.redis);
                command.args(["--port", &port.to_string(), "--bind", &address]);
                command.args([
                    "--save",
                    "",
                    "--appendonly",
                    "yes",
                    "--protected-mode",
                    "no",
                ]);
                command
                    .args(["--appendfsync", "always"])
                    .arg("--dir")
                    .arg(&server.folder);
            }
            Kind::Postgres => {
                let programs = self.programs.postgres.clone().unwrap_or_default();
                command.arg(programs.join("postgres"));
                command.arg("-D").arg(server.folder.join("data"));
                let folder = server.folder.display();
                for setting in [
                    format!("listen_addresses={address}"),
                    format!("port={port}"),
                    format!("unix_socket_directories={folder}"),
                    "min_wal_size=2MB".to_owned(),
                    "max_wal_size=64MB".to_owned(),
                ] {
                    command.arg("-c").arg(setting);
                }
                let access = server.folder.join("data/pg_hba.conf");
                let rules = "local all all trust\nhost all all 0.0.0.0/0 trust\n";
                fs::write(access, rules).map_err(text)?;
            }
            Kind::Sqlite => unreachable!("it has no server"),
        }
        let _ = peer;
        command.stdout(log.try_clone().map_err(text)?).stderr(log);
        let process = command.spawn().map_err(text)?;
        self.servers[at].process = Some(process);
        Ok(())
    }

    fn etcd(&self, command: &mut Command, at: usize, network: &Network) {
        let address = |server: &Server| network.host(server.host).address.clone();
        let peers: Vec<String> = (self.servers.iter().enumerate())
            .map(|(at, server)| format!("n{at}=http://{}:{}", address(server), server.ports[1]))
            .collect();
        let server = &self.servers[at];
        let [client, peer] = server
            .ports
            .map(|port| format!("http://{}:{port}", address(server)));
        command.args(["env", "ETCD_UNSUPPORTED_ARCH=arm64"]);
        if let (true, Some(program)) = (self.has_clocks, &self.programs.lease_clock) {
            command.arg(program).arg(self.clock_file(at));
        }
        let member = EtcdMember {
            name: &format!("n{at}"),
            data: &server.folder.join("data"),
            client: &client,
            peer: &peer,
            cluster: &peers,
        };
        command.arg("etcd").args(member.arguments());
    }

    /// Whether the engine's server runs with a clock that can be moved.
    pub(crate) fn clock_works(&mut self, network: &Network) -> bool {
        if !self.programs.may_move_clock(self.kind) {
            return false;
        }
        self.has_clocks = true;
        if self.kind == Kind::Etcd {
            // Alone it elects no leader, so it does not answer.
            return self.shows_the_date(network);
        }
        let works = self.spawn(0, network).is_ok()
            && self.wait_for(0, network, Duration::from_secs(5)).is_ok();
        self.kill(0);
        works
    }

    /// Whether a member of etcd that starts a day ahead writes that day into its log.
    fn shows_the_date(&mut self, network: &Network) -> bool {
        let day = 86_400;
        let date = |offset: i64| {
            let date = Command::new("date")
                .args(["-u", "+%Y-%m-%d", "-d"])
                .arg(format!("{offset} seconds"))
                .output();
            let date = date.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            date.unwrap_or_default().trim().to_owned()
        };
        let (log, start) = (self.folder.join("log0"), Instant::now());
        let mut works = self.move_clock(0, day).is_ok() && self.spawn(0, network).is_ok();
        while works && start.elapsed() < Duration::from_secs(5) {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let expected = format!("\"ts\":\"{}", date(day));
            if text.contains(&expected) {
                break;
            }
            works = self.is_running(0) && !text.contains(&format!("\"ts\":\"{}", date(0)));
            thread::sleep(Duration::from_millis(20));
        }
        self.kill(0);
        let _ = fs::remove_file(log);
        works &= self.move_clock(0, -day).is_ok() && self.lose_data(0).is_ok();
        works
    }

    pub(crate) fn is_ready(&self, at: usize, network: &Network) -> bool {
        let place = self.place(at, network);
        match self.kind {
            Kind::Etcd => {
                let agent = agent(Duration::from_millis(1000));
                let body = json!({ "key": gateway::encode("nothing") });
                post(&agent, &place, "/v3/kv/range", &body).is_ok()
            }
            Kind::Quorum => {
                let ping = || -> std::io::Result<String> {
                    let mut stream = TcpStream::connect(&place)?;
                    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
                    stream.write_all(b"PING\r\n")?;
                    let mut answer = [0; 7];
                    stream.read_exact(&mut answer)?;
                    Ok(String::from_utf8_lossy(&answer).into_owned())
                };
                ping().is_ok_and(|answer| answer == "+PONG\r\n")
            }
            Kind::Postgres => {
                let programs = self.programs.postgres.clone().unwrap_or_default();
                let program = programs.join("pg_isready").display().to_string();
                let (host, port) = place.split_once(':').unwrap_or_default();
                let at = ["-t", "1", "-h", host, "-p", port, "-U", POSTGRES];
                run(&[&[program.as_str(), "-q"], &at[..]].concat()).is_ok()
            }
            Kind::Sqlite => true,
        }
    }
}
