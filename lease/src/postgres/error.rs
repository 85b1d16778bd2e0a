//! The meaning of the errors of the client for a call.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::engine::{EngineError, Outcome};

/// The statement that grants a role what requests need.
pub(super) const GRANTS: &str = "GRANT USAGE ON SCHEMA latchwork TO the_role; \
     GRANT SELECT, INSERT, UPDATE ON latchwork.lease TO the_role; \
     GRANT SELECT ON latchwork.layout TO the_role";

/// Describes an error of a request that was sent.
///
/// The server reports an error of a statement only after it rolled the statement back. Any other
/// end of the connection leaves the outcome unknown.
pub(super) fn of_request(server: &str, error: &Error) -> EngineError {
    match error.as_db_error() {
        Some(refused) if !ends_connection(refused) => of_server(server, refused),
        _ => EngineError::unknown(describe(server, error)),
    }
}

/// Describes an error before the request was sent.
pub(super) fn of_connection(server: &str, error: &Error) -> EngineError {
    match error.as_db_error() {
        Some(refused) => of_server(server, refused),
        None if is_tls(error) => EngineError::misconfigured(describe(server, error)),
        None => {
            let text = describe(server, error);
            // The client reports a password that is missing or a mechanism that it does not have.
            match text.contains("authentication error") || text.contains("password missing") {
                true => EngineError::misconfigured(text),
                false => EngineError::not_done(text),
            }
        }
    }
}

/// Returns true if the error may have interrupted a commit.
pub(super) fn ends_connection(error: &DbError) -> bool {
    let is_fatal = matches!(
        error.parsed_severity(),
        Some(Severity::Fatal | Severity::Panic)
    );
    is_fatal || *error.code() == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
}

/// Returns true if a pooler between client and server refused a setting of the session.
pub(super) fn is_pooler(error: &Error) -> bool {
    error
        .as_db_error()
        .is_some_and(|error| error.message().contains("unsupported startup parameter"))
}

fn is_tls(error: &Error) -> bool {
    // Not one of a connection that broke in the handshake.
    let Some(cause) = error.source() else {
        return error.to_string().contains("TLS");
    };
    let cause = cause.to_string();
    error.to_string().contains("TLS") && !cause.contains("reset") && !cause.contains("eof")
}

/// Returns true if a part of the layout is missing.
fn is_undefined(code: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
    ]
    .contains(code)
}

fn of_server(server: &str, error: &DbError) -> EngineError {
    let code = error.code();
    let is_permanent = [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_CATALOG_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        SqlState::UNTRANSLATABLE_CHARACTER,
    ]
    .contains(code);
    let advice = match code {
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => format!("; the role needs: {GRANTS}"),
        code if is_undefined(code) => {
            "; the layout is that of another release, or was removed".to_owned()
        }
        _ => String::new(),
    };
    let message = error.message().replace('\n', " ");
    EngineError {
        outcome: Outcome::NotDone,
        is_temporary: !is_permanent,
        source: format!("{server}: {message} ({}){advice}", code.code()).into(),
    }
}

/// Describes an error and its causes in one line. The client's errors contain no password.
fn describe(server: &str, error: &Error) -> String {
    let mut text = format!("{server}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string().replace('\n', " "));
        source = cause.source();
    }
    text
}
