//! What a failing model says: one short message, also where loom goes on to abort the process.

use std::cell::RefCell;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

/// Starts the message of every failed model; [`Failure::find`] looks for it in the output of a
/// twin.
const PREFIX: &str = "FAILED model ";

struct Running {
    title: String,
    executions: Arc<AtomicUsize>,
    reported: bool,
}

thread_local! {
    // loom runs all threads of a model on the OS thread that called it, so this names the model for
    // each of them.
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// While it lives, a panic of this OS thread is reported as the failure of this model.
pub(crate) struct Context(());

impl Context {
    pub(crate) fn enter(title: String, executions: Arc<AtomicUsize>) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if !report(info) {
                    previous(info);
                }
            }));
        });
        let running = Running {
            title,
            executions,
            reported: false,
        };
        RUNNING.with(|slot| *slot.borrow_mut() = Some(running));
        Context(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        RUNNING.with(|slot| *slot.borrow_mut() = None);
    }
}

/// Writes the first panic of a model; the ones that follow while loom unwinds its threads explain
/// nothing.
fn report(info: &PanicHookInfo<'_>) -> bool {
    RUNNING.with(|slot| {
        let Ok(mut slot) = slot.try_borrow_mut() else {
            return false;
        };
        let Some(running) = slot.as_mut() else {
            return false;
        };
        if std::mem::replace(&mut running.reported, true) {
            return true;
        }
        let payload = info.payload();
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        // Past the capture of the test harness: where loom aborts, captured output is lost. One
        // write, so that the lines of models that fail at the same time do not mix.
        let text = format!(
            "{PREFIX}{} in execution {}: {}\n    at {place}\n",
            running.title,
            running.executions.load(Ordering::Relaxed),
            message.replace('\n', "\n    "),
        );
        let _ = std::io::stderr().write_all(text.as_bytes());
        true
    })
}

/// The failure of a negative twin, as its process told it.
#[derive(Debug)]
pub(crate) struct Failure {
    execution: String,
    message: String,
}

impl Failure {
    /// Finds the first failure of the model with this title in what its process wrote.
    pub(crate) fn find(output: &str, title: &str) -> Option<Self> {
        let (_, report) = output.split_once(&format!("{PREFIX}{title} in "))?;
        let (execution, rest) = report.split_once(": ")?;
        let mut lines = rest.lines();
        let mut message = lines.next()?.to_owned();
        for line in lines.take_while(|line| line.starts_with("    ")) {
            message.push('\n');
            message.push_str(line.trim());
        }
        Some(Failure {
            execution: execution.to_owned(),
            message,
        })
    }

    /// Says what was noticed, or why this failure does not show that the seeded fault was.
    pub(crate) fn judge(self, because: Option<&str>) -> Result<String, String> {
        // The search broke down: it says nothing about the model.
        const NOT_THE_MODEL: [&str; 5] = [
            "was cut off",
            "exceeded maximum number of branches",
            "Is the model fully deterministic?",
            "[loom internal bug]",
            "outside a Loom model",
        ];
        let Failure { execution, message } = self;
        match because {
            Some(text) if !message.contains(text) => {
                return Err(format!(
                    "failed in {execution}, but not because of {text:?}: {message}"
                ));
            }
            None if NOT_THE_MODEL.iter().any(|reason| message.contains(reason)) => {
                return Err(format!(
                    "the search itself failed in {execution}: {message}"
                ));
            }
            _ => {}
        }
        Ok(format!(
            "{execution}: {}",
            message.lines().next().unwrap_or_default()
        ))
    }
}
