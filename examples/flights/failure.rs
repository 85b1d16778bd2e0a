//! How a program ends that cannot do its work: one line on stderr and an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

/// The reason why the program ends early: its exit code and one line on stderr.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    line: String,
}

impl Failure {
    /// The input is bad: exit code 2.
    pub(crate) fn usage(line: impl ToString) -> Self {
        let line = line.to_string();
        Self { code: 2, line }
    }

    /// The run is bad, a wrong total for example: exit code 1.
    pub(crate) fn failed(line: impl ToString) -> Self {
        let line = line.to_string();
        Self { code: 1, line }
    }
}

/// Runs the program with its arguments, and reports why it fails.
pub(crate) fn exit<C>(
    program: &str,
    arguments: Result<C, clap::Error>,
    run: impl FnOnce(&C) -> Result<(), Failure>,
) -> ExitCode {
    let result = match arguments {
        Ok(arguments) => run(&arguments),
        Err(e) if e.use_stderr() => Err(Failure::usage(on_one_line(&e))),
        Err(help) => {
            let _ = help.print();
            Ok(())
        }
    };
    let Err(Failure { code, line }) = result else {
        return ExitCode::SUCCESS;
    };
    // One line, whatever a path or a field contains. If stderr is closed, only the exit code
    // reports the failure.
    let line = line.replace(char::is_control, "?");
    let _ = writeln!(io::stderr(), "{program}: {line}");
    ExitCode::from(code)
}

/// The error of clap about the command line, without its hints and usage.
fn on_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.lines().take_while(|line| !line.trim().is_empty());
    first.map(str::trim).collect::<Vec<_>>().join(" ")
}
