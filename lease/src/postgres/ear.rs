//! The connection that receives notifications.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tokio::time::timeout_at;
use tokio_postgres::AsyncMessage;

use crate::clock;
use crate::engine::EngineError;

use super::error;
use super::notices::{Ear, Notices};
use super::session::{Server, drive};
use super::statements::CHANNEL;

/// Connects and listens, reports the result, and delivers notifications until the connection ends.
pub(super) async fn listen(
    server: &Server,
    notices: &Arc<Notices>,
    deadline: Instant,
    sender: SyncSender<Result<(), EngineError>>,
) {
    let connected = async {
        let ear = Ear::new(clock::random().map_err(EngineError::not_done)?);
        let mut wire = server.connect(deadline).await?;
        if server.is_pooled() {
            return Ok(None);
        }
        // The name of the channel is a random number of this process.
        let channel = ear.channel();
        let statements = format!("LISTEN {CHANNEL}; LISTEN {channel}");
        let request = drive(&mut wire.link, wire.client.batch_execute(&statements));
        match timeout_at(deadline.into(), request).await {
            Ok(Ok(Ok(()))) => Ok(Some((wire, ear))),
            Ok(Ok(Err(failed))) => Err(error::of_connection(&server.name, &failed)),
            Ok(Err(_)) | Err(_) => Err(EngineError::not_done(format!(
                "{}: the connection ended before it listened",
                server.name
            ))),
        }
    };
    let (mut wire, ear) = match connected.await {
        Ok(Some(listening)) => listening,
        other => {
            let _ = sender.send(other.map(drop));
            return;
        }
    };
    notices.hear(ear);
    // Ends the ear however this task ends.
    let _deaf = Deaf(notices, ear);
    let _ = sender.send(Ok(()));
    drop(sender);
    let channel = ear.channel();
    while let Some(Ok(message)) = poll_fn(|context| wire.link.poll_message(context)).await {
        match message {
            AsyncMessage::Notification(notice) if notice.channel() == channel => {
                notices.call(notice.payload());
            }
            AsyncMessage::Notification(notice) => notices.signal(notice.payload()),
            _ => {}
        }
    }
}

struct Deaf<'a>(&'a Notices, Ear);

impl Drop for Deaf<'_> {
    fn drop(&mut self) {
        self.0.deafen(self.1);
    }
}
