//! Whoever speaks, whatever is said: who may, and that nothing said ends the agent.

use gauntlet_agent::identity;
use gauntlet_common::plan::PlannedLoadWorker;
use gauntlet_common::seed;
use gauntlet_process::clock::monotonic_ns;
use gauntlet_proto::agent::control_reply::Body as Reply;
use gauntlet_proto::agent::control_request::Body as Ask;
use gauntlet_proto::agent::{Arm, DescribeRequest, Hello, Prepare, ReadBack, RefusedWhy, StopLoad};
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use tokio_stream::StreamExt;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Certificate, ClientTlsConfig};
use tonic::{Code, Status};

use crate::support::{AGENT, Control, Pki, TestAgent, hello, plan, soon, wire};
use crate::{AHEAD, LEASE_MS};

#[tokio::test]
async fn only_a_coordinator_with_a_certificate_of_this_ca_is_heard() {
    let agent = TestAgent::start();
    let other_agent = agent.pki.issue(&identity::agent_dns_name("n2"));
    let mut client = agent.client_as(&other_agent).await.unwrap();
    let status = client.describe(DescribeRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let no_certificate = ClientTlsConfig::new()
        .domain_name(identity::agent_dns_name(AGENT))
        .ca_certificate(Certificate::from_pem(&other_agent.ca));
    let foreign = Pki::new().issue(identity::COORDINATOR);
    let foreign = ClientTlsConfig::new()
        .domain_name(identity::agent_dns_name(AGENT))
        .ca_certificate(Certificate::from_pem(&other_agent.ca))
        .identity(tonic::transport::Identity::from_pem(&foreign.cert, &foreign.key));
    for tls in [no_certificate, foreign] {
        // TLS 1.3 may tell a client only with the first answer.
        let heard = match agent.client_with(tls).await {
            Ok(mut client) => client.describe(DescribeRequest::default()).await.is_ok(),
            Err(_) => false,
        };
        assert!(!heard);
    }
    assert!(agent.client().await.describe(DescribeRequest::default()).await.is_ok());
}

#[tokio::test]
async fn a_hello_of_another_build_or_without_sense_is_refused_with_its_reason() {
    let agent = TestAgent::start();
    let refused = async |hello: Hello| Control::open(&agent, &hello).await.err().expect("refused");
    assert_eq!(refused(Hello { protocol: 99, ..hello(LEASE_MS) }).await.why(), RefusedWhy::Version);
    let long = "x".repeat(1_000_000);
    let catalogue = refused(Hello { catalogue_hash: long.clone(), ..hello(LEASE_MS) }).await;
    assert!(
        catalogue.why() == RefusedWhy::Catalogue && catalogue.message.len() < 1_000,
        "what was sent is not sent back"
    );
    assert_eq!(refused(Hello { run: "../../etc".into(), ..hello(LEASE_MS) }).await.why(), RefusedWhy::Plan);
    assert_eq!(refused(Hello { resume_token: 1, ..hello(LEASE_MS) }).await.why(), RefusedWhy::Token);
    let owner = format!("ann\u{1b}[31m{long}");
    let _control = Control::open(&agent, &Hello { owner, ..hello(LEASE_MS) }).await.unwrap();
    let busy = agent.client().await.describe(DescribeRequest::default()).await.unwrap().into_inner().busy_owner;
    assert!(busy.len() < 300 && !busy.contains('\u{1b}'), "{busy:?}");
}

#[tokio::test]
async fn a_plan_that_reaches_out_of_its_place_is_refused() {
    let agent = TestAgent::start();
    let mut outside = plan("");
    outside.roles[0].name = "../../outside".into();
    let mut crowd = plan("");
    crowd.load_workers = vec![PlannedLoadWorker { agent: AGENT.into() }; 100_000];
    let mut unknown = plan("");
    unknown.roles[0].kind = "toaster".into();
    for (plan, says) in [(outside, "outside"), (crowd, "100"), (unknown, "toaster")] {
        let mut control = Control::open(&agent, &hello(LEASE_MS)).await.unwrap();
        let reply = control.prepare(&plan).await;
        let Reply::Refused(refused) = reply else { panic!("{reply:?}") };
        assert!(refused.why() == RefusedWhy::Plan && refused.message.contains(says), "{}", refused.message);
        assert_eq!(agent.workers(), Vec::<u32>::new());
        let reply = control.ask(Ask::Finish(Default::default())).await;
        assert!(matches!(reply, Reply::Finished(_)), "{reply:?}");
    }
}

#[tokio::test]
async fn steps_out_of_order_and_starts_out_of_time_are_refused_and_the_session_goes_on() {
    let agent = TestAgent::start();
    let mut control = Control::open(&agent, &hello(LEASE_MS)).await.unwrap();
    let why = |reply: Reply| match reply {
        Reply::Refused(refused) => refused.why(),
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(why(control.ask(Ask::Arm(Arm { start_ns: monotonic_ns() })).await), RefusedWhy::State);
    assert_eq!(why(control.ask(Ask::ReadBack(ReadBack::default())).await), RefusedWhy::State);
    assert_eq!(why(control.ask(Ask::Hello(hello(LEASE_MS))).await), RefusedWhy::State);
    let Reply::Placed(placed) = control.prepare(&plan("")).await else { panic!("not placed") };
    let Reply::Ready(_) = control.ask(Ask::Wire(wire(&agent, placed.endpoints))).await else { panic!("not ready") };
    for start_ns in [0, 1 << 63, u64::MAX] {
        assert_eq!(why(control.ask(Ask::Arm(Arm { start_ns })).await), RefusedWhy::State);
    }
    let start_ns = monotonic_ns() + AHEAD.as_nanos() as u64;
    assert!(matches!(control.ask(Ask::Arm(Arm { start_ns })).await, Reply::Armed(_)));
}

/// Sends bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}
impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}
impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use bytes::Buf;
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// Says these messages over a control connection and listens until it ends.
async fn say(agent: &TestAgent, messages: Vec<Vec<u8>>) {
    let credentials = agent.pki.issue(identity::COORDINATOR);
    let tls = ClientTlsConfig::new()
        .domain_name(identity::agent_dns_name(AGENT))
        .ca_certificate(Certificate::from_pem(&credentials.ca))
        .identity(tonic::transport::Identity::from_pem(&credentials.cert, &credentials.key));
    let endpoint = tonic::transport::Channel::from_shared(format!("https://{}", agent.address)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/gauntlet.agent.v1.Agent/Control");
    let request = tonic::Request::new(tokio_stream::iter(messages));
    if let Ok(replies) = grpc.streaming(request, path, Raw).await {
        let mut replies = replies.into_inner();
        soon("the agent hangs up", async { while let Some(Ok(_)) = replies.next().await {} }).await;
    }
}

#[tokio::test]
async fn no_message_ends_the_agent() {
    use prost::Message;
    let agent = TestAgent::start();
    let draw = |i: u64, j: u64| seed::key(7, &[&i.to_string(), &j.to_string()]);
    let greeting = |i: u64| {
        let run = hello(1_000).run;
        let ask = Ask::Hello(Hello { run, resume_token: draw(i, 99) % 2 * draw(i, 98), ..hello(1_000) });
        gauntlet_proto::agent::ControlRequest { body: Some(ask) }.encode_to_vec()
    };
    for i in 0..60 {
        // Half of them greet properly first; each says noise, and steps with noise in them.
        let noise = |j: u64| (0..draw(i, j) % 200).map(|k| draw(draw(i, j), k) as u8).collect::<Vec<u8>>();
        let step = |j: u64| {
            let body = match draw(i, j) % 4 {
                0 => Ask::Arm(Arm { start_ns: draw(i, j + 1) }),
                1 => Ask::Prepare(Prepare { plan_json: noise(j + 2).into(), agent: AGENT.into() }),
                2 => Ask::StopLoad(StopLoad { drain: true, aborted: false }),
                _ => Ask::ReadBack(ReadBack { role: "x".repeat(1_000), ledger: String::new() }),
            };
            gauntlet_proto::agent::ControlRequest { body: Some(body) }.encode_to_vec()
        };
        let mut messages: Vec<Vec<u8>> = (0..5).map(|j| if j % 2 == 0 { step(j) } else { noise(j) }).collect();
        if i % 2 == 0 {
            messages.insert(0, greeting(i));
        }
        say(&agent, messages).await;
    }
    say(&agent, vec![vec![0; MESSAGE_BYTES_MAX + 1]]).await;
    let described = agent.client().await.describe(DescribeRequest::default()).await.unwrap().into_inner();
    assert_eq!(described.name, AGENT);
    assert!(std::path::Path::new(&format!("/proc/{}", agent.pid())).exists());
}
