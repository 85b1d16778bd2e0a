//! The order of rounds: the short form, and cycles through all faults.

use std::path::Path;
use std::time::Duration;

use crate::Options;
use crate::crew::Crew;
use crate::fault::{self, Damage, Fault, Target};
use crate::hub::Hub;
use crate::message::Client;
use crate::network::Network;
use crate::programs::Programs;
use crate::pulse::Pulse;
use crate::record::{self, Control, Line, Round};
use crate::servers::{Kind, Servers};
use crate::session::{Hosts, Planted, Session, ShownBy, Site};

const KINDS: [Kind; 4] = [Kind::Etcd, Kind::Quorum, Kind::Postgres, Kind::Sqlite];

fn controls() -> [Planted; 7] {
    let control = |kind, name, shown_by, fault| Planted {
        kind,
        name,
        crew: Crew::SOUND,
        shown_by,
        fault,
        is_short: true,
    };
    let with_crew = |planted: Planted, crew| Planted { crew, ..planted };
    let unfenced = |kind| Planted {
        is_short: false,
        ..control(
            kind,
            "no fence",
            ShownBy::StaleWrites,
            (Target::Holder, Damage::Stop),
        )
    };
    let removed = (Target::Waiter, Damage::RemoveRequest);
    [
        control(
            Kind::Quorum,
            "no fence",
            ShownBy::StaleWrites,
            (Target::Holder, Damage::Stop),
        ),
        with_crew(
            control(
                Kind::Quorum,
                "no configuration hash",
                ShownBy::TwoHolders,
                (Target::AllServers, Damage::Nothing),
            ),
            Crew {
                plant: Some("no configuration hash"),
                has_two_lists: true,
                ..Crew::SOUND
            },
        ),
        with_crew(
            control(
                Kind::Etcd,
                "own key unchecked",
                ShownBy::TwoHolders,
                removed,
            ),
            Crew {
                plant: Some("own key unchecked"),
                ..Crew::SOUND
            },
        ),
        with_crew(
            control(
                Kind::Etcd,
                "the Lock call of etcd",
                ShownBy::TwoHolders,
                removed,
            ),
            Crew {
                client: Client::LockCall,
                ..Crew::SOUND
            },
        ),
        Planted {
            is_short: false,
            ..control(
                Kind::Postgres,
                "a lease that is left",
                ShownBy::Ghosts,
                (Target::AllServers, Damage::LeaveLease),
            )
        },
        unfenced(Kind::Postgres),
        unfenced(Kind::Sqlite),
    ]
}

struct Campaign {
    site: Site,
    /// Names of what was skipped, so that each is printed once.
    skipped: Vec<String>,
    is_sound: bool,
}

impl Campaign {
    fn new(options: &Options) -> Result<Campaign, String> {
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
        fastrand::seed(seed);
        println!("lease_faults: seed {seed}");
        let mut network = Network::new(options.namespaces.clone())?;
        let hosts = Hosts::add(&mut network)?;
        if network.can_be_slow() {
            println!("lease_faults: slow links: {}", network.slowness());
        }
        let site = Site {
            programs: Programs::find(),
            network,
            hosts,
            hub: Hub::listen(&options.folder.join("hub"))?,
            pulse: Pulse::start(),
            folder: options.folder.clone(),
            last: 0,
        };
        Ok(Campaign {
            site,
            skipped: Vec::new(),
            is_sound: true,
        })
    }

    fn skip(&mut self, text: String) {
        if !self.skipped.contains(&text) {
            println!("SKIPPED {text}");
            self.skipped.push(text);
        }
    }

    /// Returns the engines whose programs are installed.
    fn kinds(&mut self, options: &Options) -> Vec<Kind> {
        let is_selected = |kind: &Kind| options.only.is_empty() || options.only.contains(kind);
        let mut kinds = Vec::new();
        for kind in KINDS.into_iter().filter(is_selected) {
            match self.site.programs.missing(kind).map(str::to_owned) {
                Some(program) => {
                    let required = std::env::var("ENGINES_REQUIRED").unwrap_or_default();
                    let text = format!("{}: {program} is not installed", kind.name());
                    let name = if kind == Kind::Quorum {
                        "redis"
                    } else {
                        kind.name()
                    };
                    if required.split(',').any(|engine| engine == name) {
                        self.is_sound = false;
                        println!("BROKEN {text}, and is required");
                    } else {
                        self.skip(text);
                    }
                }
                None => kinds.push(kind),
            }
        }
        kinds
    }
}

/// Returns why a fault cannot be made here.
fn unsupported(fault: Fault, servers: &Servers, has_links: bool) -> Option<&'static str> {
    match fault.damage {
        Damage::FillDisk if !servers.has_disks => Some("no disk can be mounted"),
        Damage::ClockAhead | Damage::ClockBack if !servers.has_clocks => {
            Some("the clock of the server cannot be moved")
        }
        _ if fault.needs_links() && !has_links => Some("there are no network namespaces"),
        _ => None,
    }
}

/// The work of one session: faults at one engine, then controls.
struct Plan<'a> {
    kind: Kind,
    ttl: Duration,
    faults: &'a [Fault],
    controls: &'a [Planted],
}

/// Performs a plan. `report` receives each result, and returns whether the session continues.
fn run_session(
    campaign: &mut Campaign,
    plan: &Plan<'_>,
    report: &mut dyn FnMut(Line) -> Result<bool, String>,
) -> Result<(), String> {
    let network = &campaign.site.network;
    let (has_links, can_be_slow) = (network.has_links(), network.can_be_slow());
    let mut skipped = Vec::new();
    let &Plan {
        kind,
        ttl,
        faults,
        controls,
    } = plan;
    let mut session = Session::start(kind, &mut campaign.site, ttl)?;
    if faults.iter().any(|fault| fault.damage == Damage::Rewind) {
        session.back_up()?;
    }
    let mut run = || -> Result<(), String> {
        session.hire(Crew::SOUND)?;
        for &fault in faults {
            let mut reason = unsupported(fault, &session.servers, has_links);
            if fault.damage == Damage::Slow && !can_be_slow {
                reason = Some("links cannot be slowed");
            }
            if let Some(reason) = reason {
                skipped.push(format!("{}: {}: {reason}", kind.name(), fault.name(kind)));
                continue;
            }
            let round = session.round(fault);
            let has_failed = round.is_err();
            // Without a result, the servers and workers are replaced by the next session.
            let round = round.unwrap_or_else(|error| {
                let mut round = Round::new(kind, fault.name(kind));
                round.broken.push(error);
                round
            });
            println!("{}", round.line());
            if !report(Line::Round(round))? || has_failed {
                return Ok(());
            }
        }
        for planted in controls {
            let control = session.control(planted, 6).unwrap_or_else(|error| {
                println!("BROKEN control: {}: {error}", planted.name);
                Control::undetected(kind, planted.name)
            });
            println!("{}", control.line());
            if !report(Line::Control(control))? {
                return Ok(());
            }
        }
        Ok(())
    };
    let result = run();
    drop(session);
    for text in skipped {
        campaign.skip(text);
    }
    result
}

fn controls_of(kind: Kind, is_short: bool) -> Vec<Planted> {
    controls()
        .into_iter()
        .filter(|control| control.kind == kind && (control.is_short || !is_short))
        .collect()
}

fn is_sound(line: &Line) -> bool {
    match line {
        Line::Round(round) => round.broken.is_empty(),
        Line::Control(control) => control.is_detected,
    }
}

/// Runs the short form, and returns whether all rules held and all controls were detected.
pub(crate) fn short(options: &Options) -> Result<bool, String> {
    let mut campaign = Campaign::new(options)?;
    // No clock is moved, and a server that does not start under the library costs seconds.
    campaign.site.programs.clock = None;
    campaign.site.programs.lease_clock = None;
    let mut sound = true;
    for kind in campaign.kinds(options) {
        let ttl = match kind {
            Kind::Etcd => Duration::from_secs(2),
            _ => Duration::from_secs(1),
        };
        let (faults, controls) = (fault::short(kind), controls_of(kind, true));
        let mut report = |line: Line| {
            sound = sound && is_sound(&line);
            Ok(true)
        };
        let plan = Plan {
            kind,
            ttl,
            faults: &faults,
            controls: &controls,
        };
        run_session(&mut campaign, &plan, &mut report)?;
    }
    Ok(sound && campaign.is_sound)
}

/// Runs cycles through all faults until the rounds of the file have lasted so long.
pub(crate) fn long(
    options: &Options,
    minutes: f64,
    state: &Path,
    only: Option<&str>,
) -> Result<bool, String> {
    let mut campaign = Campaign::new(options)?;
    let kinds = campaign.kinds(options);
    let lines = record::read(state);
    let (mut sound, mut seconds, mut cycle) = (lines.iter().all(is_sound), 0.0, 1);
    let mut done: Vec<(Kind, String)> = Vec::new();
    for line in &lines {
        if let Line::Round(round) = line {
            seconds += round.seconds;
            if round.cycle > cycle {
                done.clear();
            }
            cycle = cycle.max(round.cycle);
            done.push((round.kind, round.fault.clone()));
        }
    }
    let limit = minutes * 60.0;
    let is_selected = |name: &str| only.is_none_or(|text| name.contains(text));
    let names = |kind: Kind| {
        fault::all(kind)
            .into_iter()
            .map(move |fault| fault.name(kind))
    };
    if !kinds
        .iter()
        .any(|&kind| names(kind).any(|name| is_selected(&name)))
    {
        return Err("no fault is selected".to_owned());
    }
    if !lines.is_empty() {
        println!(
            "lease_faults: continues in cycle {cycle}, after {:.0} s",
            seconds
        );
    }
    while seconds < limit {
        for &kind in &kinds {
            let mut faults: Vec<Fault> = fault::all(kind)
                .into_iter()
                .filter(|fault| !done.contains(&(kind, fault.name(kind))))
                .filter(|fault| is_selected(&fault.name(kind)))
                .collect();
            if faults.is_empty() || seconds >= limit {
                continue;
            }
            fastrand::shuffle(&mut faults);
            // Once a cycle, at the end of the session.
            let controls = if only.is_none() {
                controls_of(kind, false)
            } else {
                Vec::new()
            };
            let mut report = |mut line: Line| {
                sound = sound && is_sound(&line);
                if let Line::Round(round) = &mut line {
                    round.cycle = cycle;
                    seconds += round.seconds;
                }
                record::append(state, &line)?;
                Ok(seconds < limit)
            };
            let ttl = Duration::from_secs(2);
            // A program answers each question of etcd for its date. On a machine with other work
            // it delays etcd by seconds, so it runs only beside the faults that need it.
            let lease_clock = campaign.site.programs.lease_clock.clone();
            let (moved, others): (Vec<Fault>, Vec<Fault>) = faults
                .into_iter()
                .partition(|fault| kind == Kind::Etcd && fault.moves_clock());
            for (faults, controls, lease_clock) in [
                (others, &controls[..], None),
                (moved, &[], lease_clock.clone()),
            ] {
                if faults.is_empty() {
                    continue;
                }
                campaign.site.programs.lease_clock = lease_clock;
                let plan = Plan {
                    kind,
                    ttl,
                    faults: &faults,
                    controls,
                };
                run_session(&mut campaign, &plan, &mut report)?;
            }
            campaign.site.programs.lease_clock = lease_clock;
        }
        done.clear();
        cycle += 1;
    }
    Ok(sound && campaign.is_sound)
}
