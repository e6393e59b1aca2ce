//! A role of one file and one line, as `docs/extending.md` walks through it.

use gauntlet_common::scenario::Metric;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::cluster::{Cluster, soon};
use crate::link::Traffic;
use crate::role::{Role, RoleContext, RoleEntry, RoleError, counter};

/// Answers each line with itself.
struct Echo;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    prefix: String,
}

impl Role for Echo {
    const NAME: &'static str = "echo";
    const HELP: &'static str = "answers each line with itself";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![counter("lines", "lines answered")]
    }

    fn updatable() -> &'static [&'static str] {
        &["prefix"]
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let worker = context.clone();
        context.spawn(async move {
            loop {
                let stream = worker.links.next_connection(&listener, Traffic::Load).await;
                let (lines, prefix) = (worker.foundation.telemetry.counter("lines"), params.prefix.clone());
                worker.spawn(async move {
                    let mut stream = BufReader::new(stream.take(64 * 1024));
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                        lines.one();
                        let answer = format!("{prefix}{line}");
                        if stream.get_mut().get_mut().write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                        line.clear();
                    }
                });
            }
        });
        Ok(())
    }
}

/// The line of registration.
pub(super) const WITH_ECHO: &[RoleEntry] = &[RoleEntry::of::<Echo>()];

#[tokio::test]
async fn a_new_role_is_one_file_and_one_line() {
    let params = serde_json::json!({ "prefix": "> " });
    let mut cluster = Cluster::with(WITH_ECHO, 95, &[("echo", "echo", 1, params)]);
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    let mut stream = BufReader::new(TcpStream::connect(cluster.service("echo", 0)).await.unwrap());
    stream.get_mut().write_all(b"hello\n").await.unwrap();
    let mut line = String::new();
    soon(stream.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "> hello\n");
    assert_eq!(nodes[0].metrics_until("lines", 1.0).await["lines"], 1.0);
}
