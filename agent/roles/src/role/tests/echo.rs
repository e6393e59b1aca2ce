//! A role of one file and one line, as `docs/extending.md` walks through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gauntlet_common::scenario::Metric;
use gauntlet_proto::agent::{Audit, RoleAudit};
use gauntlet_proto::worker::{from_worker, to_worker};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::cluster::{Cluster, Node, soon};
use crate::kit::{RoleContext, RoleError, counter};
use crate::link::Traffic;
use crate::role::{Role, RoleEntry};

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

    fn audits() -> Vec<Metric> {
        vec![counter("answered", "lines answered, counted on the spot")]
    }

    fn updatable() -> &'static [&'static str] {
        &["prefix"]
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let answered = Arc::new(AtomicU64::new(0));
        let (told, prefix) = (answered.clone(), params.prefix.clone());
        context.on_audit(move || {
            let audit = match prefix.as_str() {
                "silent" => Ok(vec![]),
                "broken" => Err("the lines are lost".to_string()),
                _ => Ok(vec![("answered", told.load(Ordering::Relaxed))]),
            };
            async move { audit }
        });
        let worker = context.clone();
        context.spawn(async move {
            loop {
                let stream = worker.links.next_connection(&listener, Traffic::Load).await;
                let (lines, prefix) = (worker.foundation.telemetry.counter("lines"), params.prefix.clone());
                let answered = answered.clone();
                worker.spawn(async move {
                    let mut stream = BufReader::new(stream.take(64 * 1024));
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                        lines.one();
                        answered.fetch_add(1, Ordering::Relaxed);
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

async fn audited(node: &mut Node) -> RoleAudit {
    node.send(to_worker::Body::Audit(Audit {})).await;
    node.reply(|body| match body {
        from_worker::Body::Audited(audited) => Some(audited),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_role_tells_every_figure_that_it_declares_or_why_there_is_none() {
    let prefixed = |prefix: &str| serde_json::json!({ "prefix": prefix });
    let roles = [
        ("echo", "echo", 1, prefixed("> ")),
        ("silent", "echo", 1, prefixed("silent")),
        ("broken", "echo", 1, prefixed("broken")),
    ];
    let mut cluster = Cluster::with(WITH_ECHO, 96, &roles);
    let mut nodes = cluster.start_all().await;
    let mut stream = BufReader::new(TcpStream::connect(cluster.service("echo", 0)).await.unwrap());
    for _ in 0..3 {
        stream.get_mut().write_all(b"hello\n").await.unwrap();
        soon(stream.read_line(&mut String::new())).await.unwrap();
    }
    let told = audited(&mut nodes[0]).await;
    assert_eq!((told.role.as_str(), told.figures["answered"], told.error.as_str()), ("echo", 3, ""));
    assert_eq!(audited(&mut nodes[1]).await.error, "its audit left `answered` out");
    let told = audited(&mut nodes[2]).await;
    assert_eq!((told.figures.len(), told.error.as_str()), (0, "the lines are lost"));
}
