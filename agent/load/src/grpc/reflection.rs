//! A server's own account of its services (gRPC server reflection, v1 and its older v1alpha), asked once before any load.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::nearest::suggest;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use indexmap::IndexMap;
use prost_reflect::DescriptorPool;
use prost_reflect::prost::Message;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Question;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::schema::{SET_BYTES_MAX, Schema};
use crate::connection::{Target, source};

/// Both have the same messages.
const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// Of all that is asked of one server; the agent waits for it.
const WITHIN: Duration = Duration::from_secs(8);
/// Files that services may be spread over, and bytes of all of them; a server with more names some without end.
const FILES_MAX: usize = 1_000;
const FILES_BYTES_MAX: usize = 8 * SET_BYTES_MAX;
/// Characters of what a server says that are told on: an error goes through logs and reports, and the server chose its length.
const SAID_MAX: usize = 300;

/// Who is asked.
pub struct Asked<'a> {
    pub target: &'a Target,
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub source: Option<IpAddr>,
    pub to_role: bool,
    /// The workload's own, without those that have templates: nobody is there yet to fill them for.
    pub metadata: MetadataMap,
}

/// Of the workload's metadata, what every call has the same.
pub fn metadata(all: &IndexMap<String, String>) -> MetadataMap {
    let fixed = all.iter().filter(|(_, value)| !value.contains("{{"));
    let parsed =
        fixed.map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?)));
    // What is no metadata is told when the calls are prepared.
    MetadataMap::from_headers(parsed.flatten().collect::<HeaderMap>())
}

/// The services of these names, as the target tells of them. Waits for it, on this thread.
pub fn ask(asked: &Asked<'_>, services: &BTreeSet<String>) -> Result<Schema, String> {
    let at = &asked.target.authority;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime to ask {at} for its services: {e}"))?;
    let told = runtime.block_on(async { tokio::time::timeout(WITHIN, both(asked, services)).await });
    let told = told.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())));
    told.map_err(|why| format!("asking {at} for its services by reflection: {why}"))
}

async fn both(asked: &Asked<'_>, services: &BTreeSet<String>) -> Result<Schema, String> {
    let channel = channel(asked).await?;
    for path in PATHS {
        match Exchange::begin(channel.clone(), path, &asked.metadata).await {
            Ok(mut exchange) => return exchange.schema(services).await,
            Err(status) if status.code() == Code::Unimplemented => {}
            Err(status) => return Err(format!("{}; is it a gRPC service that this workload may call?", said(&status))),
        }
    }
    Err("it has no reflection, neither v1 nor v1alpha; name a file of descriptors instead: descriptors: FILE".into())
}

fn said(status: &Status) -> String {
    format!("it said {:?} ({})", status.code(), cut(status.message()))
}

/// The beginning of what a server said.
fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SAID_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// What an answer is of, its content aside.
fn kind(answer: &Answer) -> &'static str {
    match answer {
        Answer::FileDescriptorResponse(_) => "files",
        Answer::AllExtensionNumbersResponse(_) => "numbers of extensions",
        Answer::ListServicesResponse(_) => "a list of services",
        Answer::ErrorResponse(_) => "an error",
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connected as load is: from the same address, trusting the same.
async fn channel(asked: &Asked<'_>) -> Result<Channel, String> {
    let stream =
        connect(asked).await.map_err(|e| format!("no connection: {e}; start it, or mend the workload's `target`"))?;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset));
        async move { stream }
    });
    let scheme = if asked.tls.is_some() { "https" } else { "http" };
    let origin: Uri = format!("{scheme}://{}", asked.target.authority).parse().map_err(|e| format!("{e}"))?;
    let endpoint = Endpoint::from_static("http://reflection").origin(origin);
    endpoint.connect_with_connector(connector).await.map_err(|e| format!("no HTTP/2: {e}"))
}

async fn connect(asked: &Asked<'_>) -> io::Result<Box<dyn Stream>> {
    let Target { host, port, address, .. } = asked.target;
    let addresses: Vec<SocketAddr> = match address {
        Some(address) => vec![*address],
        None => tokio::net::lookup_host((host.as_str(), *port)).await?.collect(),
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(own) = source(asked.source, address.ip(), asked.to_role) {
            socket.bind(SocketAddr::new(own, 0))?;
        }
        match (socket.connect(address).await, &asked.tls) {
            (Ok(stream), None) => return Ok(Box::new(stream)),
            (Ok(stream), Some(tls)) => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                return Ok(Box::new(tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await?));
            }
            (Err(error), _) => last = error,
        }
    }
    Err(last)
}

/// One conversation: a question, its answer, and so on.
struct Exchange {
    questions: mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
    /// Of files that it has told.
    bytes: usize,
}

impl Exchange {
    async fn begin(channel: Channel, path: &'static str, metadata: &MetadataMap) -> Result<Self, Status> {
        let mut client = Grpc::new(channel).max_decoding_message_size(FILES_BYTES_MAX);
        client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let (questions, asked) = mpsc::channel(1);
        // Some servers say nothing before they were asked.
        let first = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(Question::ListServices(String::new())),
        };
        questions.try_send(first).map_err(|e| Status::internal(e.to_string()))?;
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let mut asking = tonic::Request::new(ReceiverStream::new(asked));
        *asking.metadata_mut() = metadata.clone();
        let answers = client.streaming(asking, PathAndQuery::from_static(path), codec).await?.into_inner();
        Ok(Self { questions, answers, bytes: 0 })
    }

    async fn answer(&mut self) -> Result<Answer, String> {
        let answer = self.answers.message().await.map_err(|status| said(&status))?;
        answer.and_then(|answer| answer.message_response).ok_or_else(|| "it ended the conversation".into())
    }

    async fn files(&mut self, question: Question) -> Result<Result<Vec<FileDescriptorProto>, String>, String> {
        let question = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        self.questions.send(question).await.map_err(|_| "it ended the conversation")?;
        match self.answer().await? {
            Answer::FileDescriptorResponse(files) => {
                self.bytes += files.file_descriptor_proto.iter().map(Vec::len).sum::<usize>();
                if self.bytes > FILES_BYTES_MAX {
                    return Err(format!("its services' files have more than {FILES_BYTES_MAX} bytes"));
                }
                let files =
                    files.file_descriptor_proto.iter().map(|bytes| FileDescriptorProto::decode(bytes.as_slice()));
                let files = files.collect::<Result<Vec<_>, _>>();
                files.map(Ok).map_err(|e| format!("a file that is no FileDescriptorProto: {}", cut(&e.to_string())))
            }
            Answer::ErrorResponse(error) => Ok(Err(cut(&error.error_message).into_owned())),
            other => Err(format!("it was asked for files and answered with {}", kind(&other))),
        }
    }

    /// The files of these services, with all that they import.
    async fn schema(&mut self, services: &BTreeSet<String>) -> Result<Schema, String> {
        let Answer::ListServicesResponse(known) = self.answer().await? else {
            return Err("it does not list its services".into());
        };
        let known: Vec<&str> = known.service.iter().map(|service| service.name.as_str()).collect();
        let mut set = FileDescriptorSet::default();
        for service in services {
            if !known.contains(&service.as_str()) {
                let help = suggest(service, "service", known.iter().copied());
                return Err(format!("there is no service `{service}`; {}", cut(&help)));
            }
            let files = self.files(Question::FileContainingSymbol(service.clone())).await?;
            add(&mut set, files.map_err(|why| format!("the file of `{service}`: {why}"))?)?;
        }
        while let Some(name) = missing(&set) {
            let files = self.files(Question::FileByFilename(name.clone())).await?;
            add(&mut set, files.map_err(|why| format!("the file `{}`: {why}", cut(&name)))?)?;
            if missing(&set).as_ref() == Some(&name) {
                return Err(format!("it imports `{}` and does not have it", cut(&name)));
            }
        }
        let pool = DescriptorPool::from_file_descriptor_set(set);
        pool.map(Schema::own).map_err(|e| format!("its descriptors do not fit together: {}", cut(&e.to_string())))
    }
}

fn add(set: &mut FileDescriptorSet, files: Vec<FileDescriptorProto>) -> Result<(), String> {
    for file in files {
        if !set.file.iter().any(|known| known.name() == file.name()) {
            set.file.push(file);
        }
    }
    if set.file.len() > FILES_MAX {
        return Err(format!("its services are spread over more than {FILES_MAX} files"));
    }
    Ok(())
}

/// A file that is imported and not there.
fn missing(set: &FileDescriptorSet) -> Option<String> {
    let known: BTreeSet<&str> = set.file.iter().map(|file| file.name()).collect();
    set.file.iter().flat_map(|file| &file.dependency).find(|name| !known.contains(name.as_str())).cloned()
}
