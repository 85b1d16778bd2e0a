//! The experiments of the report.

use indicatif::ProgressBar;

use crate::outcome::Outcome;
use crate::setup::{Engine, Failures, Setup};
use crate::world::World;

/// A configuration of servers.
#[derive(Clone, Copy, Debug)]
pub struct Servers {
    /// Its name in the report.
    pub title: &'static str,
    pub(crate) engine: Engine,
    pub(crate) groups: usize,
    pub(crate) nodes: usize,
}

const fn servers(title: &'static str, engine: Engine, groups: usize, nodes: usize) -> Servers {
    Servers {
        title,
        engine,
        groups,
        nodes,
    }
}

/// The configurations whose rates are compared.
pub(crate) const SHARDED: [Servers; 8] = [
    servers("central", Engine::Central, 1, 1),
    servers("4 central", Engine::Central, 4, 1),
    servers("consensus of 3", Engine::Consensus, 1, 3),
    servers("4 x consensus of 3", Engine::Consensus, 4, 3),
    servers("8 x consensus of 3", Engine::Consensus, 8, 3),
    servers("quorum of 5", Engine::Quorum, 1, 5),
    servers("quorum, 5 of 10", Engine::Quorum, 1, 10),
    servers("quorum, 5 of 25", Engine::Quorum, 1, 25),
];

/// One configuration of each engine.
pub(crate) const PLAIN: [Servers; 3] = [
    servers("central", Engine::Central, 1, 1),
    servers("consensus of 5", Engine::Consensus, 1, 5),
    servers("quorum of 5", Engine::Quorum, 1, 5),
];

/// Groups over which names are sharded.
pub(crate) const GROUPS: [Servers; 9] = [
    servers("1 central", Engine::Central, 1, 1),
    servers("4 central", Engine::Central, 4, 1),
    servers("16 central", Engine::Central, 16, 1),
    servers("1 x consensus of 3", Engine::Consensus, 1, 3),
    servers("4 x consensus of 3", Engine::Consensus, 4, 3),
    servers("16 x consensus of 3", Engine::Consensus, 16, 3),
    servers("quorum of 5", Engine::Quorum, 1, 5),
    servers("quorum, 5 of 10", Engine::Quorum, 1, 10),
    servers("quorum, 5 of 25", Engine::Quorum, 1, 25),
];

/// Groups of different sizes.
pub(crate) const SIZES: [Servers; 7] = [
    servers("consensus of 3", Engine::Consensus, 1, 3),
    servers("consensus of 5", Engine::Consensus, 1, 5),
    servers("consensus of 9", Engine::Consensus, 1, 9),
    servers("consensus of 25", Engine::Consensus, 1, 25),
    servers("quorum of 3", Engine::Quorum, 1, 3),
    servers("quorum of 5", Engine::Quorum, 1, 5),
    servers("quorum, 5 of 25", Engine::Quorum, 1, 25),
];

/// A simulation of an experiment.
#[derive(Clone, Debug)]
pub struct Run {
    /// The configuration.
    pub servers: Servers,
    /// The value that the experiment varies.
    pub x: f64,
    /// All conditions.
    pub setup: Setup,
    /// The figures.
    pub outcome: Outcome,
}

/// All experiments.
#[derive(Clone, Debug)]
pub struct Experiments {
    /// Clients with names of their own, in one region.
    pub rates: Vec<Run>,
    /// Groups over which names are sharded, with a load in proportion to their number.
    pub sharding: Vec<Run>,
    /// Regions.
    pub regions: Vec<Run>,
    /// Sizes of groups, in three regions.
    pub sizes: Vec<Run>,
    /// Clients that compete for one name.
    pub contention: Vec<Run>,
    /// Lengths of leases.
    pub lengths: Vec<Run>,
    /// All failures, and the same without a fence.
    pub failures: Vec<(Run, Run)>,
}

/// How much is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Up to 100,000 clients, and hours of failures.
    Full,
    /// Up to 1,000 clients, and minutes of failures.
    Small,
}

struct Runner<'a> {
    extent: Extent,
    seed: u64,
    bar: &'a ProgressBar,
}

impl Runner<'_> {
    fn run(&self, servers: Servers, x: f64, setup: Setup) -> Result<Run, String> {
        let setup = Setup {
            engine: servers.engine,
            groups: servers.groups,
            nodes: servers.nodes,
            seed: self.seed,
            ..setup
        };
        self.bar.set_message(servers.title);
        let before = self.bar.position();
        let outcome = World::new(setup)?.run(|part| {
            self.bar.set_position(before + (part * 100.0) as u64);
        });
        self.bar.set_position(before + 100);
        Ok(Run {
            servers,
            x,
            setup,
            outcome,
        })
    }

    fn scaled(&self, full: f64, small: f64) -> f64 {
        match self.extent {
            Extent::Full => full,
            Extent::Small => small,
        }
    }

    fn rates(&self) -> Result<Vec<Run>, String> {
        let mut runs = Vec::new();
        let counts = [10, 100, 1000, 10_000, 30_000, 50_000, 100_000];
        for servers in SHARDED {
            for clients in counts {
                if self.extent == Extent::Small && clients > 1000 {
                    continue;
                }
                let length = if clients < 1000 { 60.0 } else { 10.0 };
                let setup = Setup {
                    clients,
                    warm_up: 12.0,
                    length: if clients >= 30_000 { 5.0 } else { length },
                    ..Setup::default()
                };
                runs.push(self.run(servers, clients as f64, setup)?);
            }
        }
        Ok(runs)
    }

    fn sharding(&self) -> Result<Vec<Run>, String> {
        let mut runs = Vec::new();
        for servers in GROUPS {
            // The part of a server's time that the requests need is the same in each row.
            let units = match servers.engine {
                Engine::Quorum => servers.nodes / 5,
                _ => servers.groups,
            };
            let each = match servers.engine {
                Engine::Quorum => 6000.0,
                _ => 3500.0,
            };
            let clients = self.scaled(each, 100.0) as usize * units;
            let setup = Setup {
                clients,
                think: 0.9,
                hold: 0.1,
                warm_up: 3.0,
                length: 4.0,
                ..Setup::default()
            };
            runs.push(self.run(servers, clients as f64, setup)?);
        }
        Ok(runs)
    }

    fn regions(&self) -> Result<Vec<Run>, String> {
        let mut runs = Vec::new();
        for servers in PLAIN {
            for regions in 1..=5 {
                let setup = Setup {
                    clients: 200,
                    regions,
                    length: self.scaled(200.0, 20.0),
                    ..Setup::default()
                };
                runs.push(self.run(servers, regions as f64, setup)?);
            }
        }
        Ok(runs)
    }

    fn sizes(&self) -> Result<Vec<Run>, String> {
        let mut runs = Vec::new();
        for servers in SIZES {
            let setup = Setup {
                clients: 200,
                regions: 3,
                length: self.scaled(200.0, 20.0),
                ..Setup::default()
            };
            runs.push(self.run(servers, servers.nodes as f64, setup)?);
        }
        Ok(runs)
    }

    fn contention(&self) -> Result<Vec<Run>, String> {
        let mut runs = Vec::new();
        for servers in PLAIN {
            for clients in [2, 4, 8, 32, 128] {
                if self.extent == Extent::Small && clients > 32 {
                    continue;
                }
                let setup = Setup {
                    clients,
                    names: Some(1),
                    think: 0.01,
                    hold: 0.01,
                    length: 10.0,
                    ..Setup::default()
                };
                runs.push(self.run(servers, clients as f64, setup)?);
            }
        }
        Ok(runs)
    }

    fn lengths(&self) -> Result<Vec<Run>, String> {
        let mut runs = Vec::new();
        for servers in PLAIN {
            for ttl in [1.0, 2.0, 5.0, 10.0, 30.0, 60.0] {
                let setup = Setup {
                    clients: 400,
                    names: Some(100),
                    ttl,
                    think: 10.0,
                    hold: 5.0,
                    failures: Failures {
                        client_crashes: 20.0,
                        restart: 10.0,
                        pauses: 20.0,
                        pause: 3.0,
                        ..Failures::default()
                    },
                    length: self.scaled(1800.0, 120.0),
                    ..Setup::default()
                };
                runs.push(self.run(servers, ttl, setup)?);
            }
        }
        Ok(runs)
    }

    fn failures(&self) -> Result<Vec<(Run, Run)>, String> {
        let mut runs = Vec::new();
        for servers in PLAIN {
            let setup = Setup {
                clients: 300,
                names: Some(60),
                regions: 3,
                ttl: 5.0,
                think: 10.0,
                hold: 2.0,
                failures: Failures {
                    client_crashes: 6.0,
                    restart: 10.0,
                    pauses: 20.0,
                    pause: 4.0,
                    client_cuts: 6.0,
                    server_crashes: 10.0,
                    repair: 20.0,
                    region_cuts: 10.0,
                    cut: 10.0,
                },
                length: self.scaled(7200.0, 300.0),
                ..Setup::default()
            };
            let fenced = self.run(servers, 0.0, setup)?;
            let control = Setup {
                has_fence: false,
                ..setup
            };
            runs.push((fenced, self.run(servers, 0.0, control)?));
        }
        Ok(runs)
    }
}

impl Experiments {
    /// Runs all experiments.
    ///
    /// # Errors
    /// Returns an error if a setup is refused.
    pub fn run(extent: Extent, seed: u64, bar: &ProgressBar) -> Result<Self, String> {
        let runner = Runner { extent, seed, bar };
        let rates = if extent == Extent::Full { 7 } else { 3 };
        let contention = if extent == Extent::Full { 5 } else { 4 };
        let runs = 8 * rates + GROUPS.len() + 15 + SIZES.len() + 3 * contention + 18 + 6;
        bar.set_length(100 * runs as u64);
        Ok(Experiments {
            rates: runner.rates()?,
            sharding: runner.sharding()?,
            regions: runner.regions()?,
            sizes: runner.sizes()?,
            contention: runner.contention()?,
            lengths: runner.lengths()?,
            failures: runner.failures()?,
        })
    }
}
