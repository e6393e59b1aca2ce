//! A user's own gRPC service (scenarios/examples/own-grpc.proto), compiled when a test runs: nothing here was generated.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status};

/// How it tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reflection {
    V1,
    /// As servers had it before v1.
    V1Alpha,
    None,
}

/// What it has made of the calls that it got.
#[derive(Debug, Default)]
pub struct Books {
    pub reserved: u64,
    pub released: u64,
    open: HashMap<String, u32>,
}

/// As `protoc --include_imports --descriptor_set_out` writes it.
pub fn descriptors() -> Vec<u8> {
    // Compiled into tests of two crates, at different depths below the workspace's root.
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("scenarios/examples"));
    let folder = above.find(|folder| folder.exists()).unwrap();
    protox::compile([folder.join("own-grpc.proto")], [folder]).unwrap().encode_to_vec()
}

/// Its address, and its books.
pub fn serve(reflection: Reflection) -> (String, Arc<Mutex<Books>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let books = Arc::new(Mutex::new(Books::default()));
    let pool = DescriptorPool::decode(descriptors().as_slice()).unwrap();
    let stock = Stock { pool, books: books.clone() };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let set = descriptors();
            let told = tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(&set);
            let mut server = tonic::transport::Server::builder();
            let server = match reflection {
                Reflection::V1 => server.add_service(stock).add_service(told.build_v1().unwrap()),
                Reflection::V1Alpha => server.add_service(stock).add_service(told.build_v1alpha().unwrap()),
                Reflection::None => server.add_service(stock),
            };
            server.serve_with_incoming(incoming).await.unwrap();
        });
    });
    (address, books)
}

#[derive(Clone)]
struct Stock {
    pool: DescriptorPool,
    books: Arc<Mutex<Books>>,
}

impl tonic::server::NamedService for Stock {
    const NAME: &'static str = "shop.v1.Stock";
}

impl Stock {
    fn answer(&self, request: &DynamicMessage, mut reply: DynamicMessage) -> Result<DynamicMessage, Status> {
        let text = |name: &str| request.get_field_by_name(name).unwrap().as_str().unwrap().to_string();
        let mut books = self.books.lock().unwrap();
        if request.descriptor_name() == "shop.v1.ReserveRequest" {
            books.reserved += 1;
            let reservation = format!("r{}", books.reserved);
            let count = request.get_field_by_name("count").unwrap().as_u32().unwrap();
            books.open.insert(reservation.clone(), count);
            let mut until = DynamicMessage::new(self.pool.get_message_by_name("google.protobuf.Timestamp").unwrap());
            until.set_field_by_name("seconds", Value::I64(1));
            reply.set_field_by_name("until", Value::Message(until));
            reply.set_field_by_name("reservation", Value::String(reservation));
            reply.set_field_by_name("customer", Value::String(text("customer")));
        } else {
            let open = books.open.remove(&text("reservation"));
            let released = open.ok_or_else(|| Status::not_found("no such reservation"))?;
            books.released += 1;
            reply.set_field_by_name("released", Value::U32(released));
        }
        Ok(reply)
    }
}

trait Named {
    fn descriptor_name(&self) -> String;
}

impl Named for DynamicMessage {
    fn descriptor_name(&self) -> String {
        prost_reflect::ReflectMessage::descriptor(self).full_name().to_string()
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<http::Response<tonic::body::Body>, Infallible>> + Send>>;

impl tower::Service<http::Request<tonic::body::Body>> for Stock {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Answering {
        let stock = self.clone();
        Box::pin(async move {
            let service = stock.pool.get_service_by_name("shop.v1.Stock").unwrap();
            let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_string();
            let Some(method) = service.methods().find(|method| method.name() == name) else {
                return Ok(Status::unimplemented(name).into_http());
            };
            let output = method.output();
            let mut grpc = tonic::server::Grpc::new(Dynamic(method.input()));
            let answer = tower::service_fn(move |request: Request<DynamicMessage>| {
                let answer = stock.answer(request.get_ref(), DynamicMessage::new(output.clone()));
                async move { answer.map(Response::new) }
            });
            Ok(grpc.unary(answer, request).await)
        })
    }
}

/// Messages by descriptors; of what is decoded.
#[derive(Clone)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        self.clone()
    }
    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;
    fn encode(&mut self, message: DynamicMessage, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(out).map_err(|e| Status::internal(e.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;
    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), bytes).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}
