//! A catalogue with the kinds and parameters of the real one as p1 uses them, so that the language is tested without an agent.

use gauntlet_common::scenario::{Catalogue, Kind, Metric, MetricKind, Problem, Verb};
use serde_json::{Value, json};

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

fn kind(name: &'static str, help: &'static str, schema: Value) -> Kind {
    Kind {
        name,
        help,
        schema,
        validate: |_| Vec::new(),
        metrics: Vec::new(),
        ledgers: Vec::new(),
        verbs: Vec::new(),
        backend: if name == "partition" { "link" } else { "process" },
    }
}

fn durations() -> Value {
    json!({ "type": "string", "format": "duration", "description": "A duration: 50ms, 5s, 1m30s." })
}

fn events() -> Value {
    json!({ "type": "string", "enum": ["memory", "buffered", "fsync"], "description": "How durable an acknowledged event is." })
}

fn role_names(params: &Value) -> Vec<Problem> {
    let attempts = params.pointer("/retry/attempts").and_then(Value::as_u64).unwrap_or(0);
    if attempts > 0 && params.pointer("/retry/budget").is_none() {
        let message = "retries need a budget; write budget: 20%, or every failure doubles the load".to_string();
        return vec![Problem { pointer: "/retry/attempts".into(), message }];
    }
    Vec::new()
}

fn roles() -> Vec<Kind> {
    let mut gateway = kind(
        "api_gateway",
        "An HTTP gateway that balances over its upstream.",
        object(
            json!({
                "upstream": { "type": "string", "format": "role", "description": "The role that it forwards to." },
                "balance": { "type": "string", "enum": ["round_robin", "least_in_flight"], "description": "Which instance is next." },
                "deadline_per_attempt": durations(),
                "eject": object(json!({ "after": { "type": "string" }, "for": durations() }), &["after", "for"]),
                "retry": object(json!({
                    "idempotent": { "type": "array", "items": { "type": "string" } },
                    "attempts": { "type": "integer", "minimum": 0, "maximum": 10 },
                    "budget": { "type": "string", "format": "ratio", "description": "A share: 0.1%, 20%." },
                    "over": durations(),
                }), &["attempts"]),
            }),
            &["upstream"],
        ),
    );
    gateway.validate = role_names;
    let mut app = kind(
        "app_server",
        "Answers actions after their processing time and stores an event for each.",
        object(
            json!({
                "events": events(),
                "failure_rate": { "type": "string", "format": "ratio", "description": "A share: 0.1%, 20%." },
                "actions": { "type": "object", "additionalProperties": { "type": "string", "format": "duration-range",
                             "description": "A duration or a span: 50ms..150ms." }, "description": "Processing time by action." },
            }),
            &["actions"],
        ),
    );
    app.ledgers = vec!["events"];
    let mut jobs = kind(
        "job_worker",
        "Works off background jobs of five kinds.",
        object(json!({ "concurrency": { "type": "integer", "minimum": 1, "maximum": 1000 }, "events": events() }), &[]),
    );
    jobs.metrics = vec![Metric { name: "completed", kind: MetricKind::Counter, help: "jobs done" }];
    let mut analytics = kind(
        "analytics",
        "Counts distinct events of a window, over and over.",
        object(
            json!({ "source": { "type": "string", "format": "role", "description": "Whose events it reads." },
                    "window": durations(), "every": durations() }),
            &["source"],
        ),
    );
    analytics.metrics = vec![Metric { name: "events", kind: MetricKind::Counter, help: "distinct events counted" }];
    vec![gateway, app, jobs, analytics]
}

fn http() -> Kind {
    let verb = |name, help| Verb {
        name,
        help,
        schema: object(
            json!({
                "path": { "type": "string", "format": "template", "description": "Where, from the target's root: /login." },
                "name": { "type": "string", "description": "Its series' name." },
                "headers": { "type": "object", "additionalProperties": { "type": "string" } },
                "json": { "description": "The body, as JSON." },
                "body": { "type": "string", "format": "template" },
                "capture": { "type": "object", "additionalProperties": { "type": "string" } },
                "expect": object(json!({ "status": { "type": ["integer", "null"], "minimum": 100, "maximum": 599 },
                                         "body_contains": { "type": "string" } }), &[]),
            }),
            &["path"],
        ),
    };
    let mut http = kind("http", "HTTP/1.1.", object(json!({ "insecure": { "type": "boolean" } }), &[]));
    http.verbs =
        [("get", "GET"), ("post", "POST"), ("put", "PUT"), ("patch", "PATCH"), ("delete", "DELETE"), ("head", "HEAD")]
            .map(|(name, help)| verb(name, help))
            .into();
    http
}

fn faults() -> Vec<Kind> {
    let select = json!({ "type": "string", "format": "select", "description": "What it picks: app[0], any 1 of app." });
    let backend = json!({ "type": "string", "enum": ["auto", "link", "kernel"] });
    vec![
        kind(
            "kill",
            "SIGKILL to the role's process group.",
            object(
                json!({ "select": select, "signal": { "type": "string", "enum": ["KILL", "TERM"] }, "restart_after": durations() }),
                &["select"],
            ),
        ),
        kind(
            "node_kill",
            "Everything on a node dies and nothing restarts until healed.",
            object(
                json!({ "select": select, "method": { "type": "string", "enum": ["process", "host"] } }),
                &["select"],
            ),
        ),
        kind("pause", "SIGSTOP, and SIGCONT at the end.", object(json!({ "select": select }), &["select"])),
        kind(
            "partition",
            "Nothing passes between two groups.",
            object(
                json!({
                    "between": { "type": "array", "items": select, "minItems": 2, "maxItems": 2, "description": "The two sides." },
                    "isolate": select,
                    "backend": backend,
                    "direction": { "type": "string", "enum": ["both", "there", "back"] },
                }),
                &[],
            ),
        ),
    ]
}

pub fn catalogue() -> Catalogue {
    Catalogue { roles: roles(), drivers: vec![http()], faults: faults() }
}
