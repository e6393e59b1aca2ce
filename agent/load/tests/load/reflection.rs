//! Services of a user's own, that this build has never seen: told by the target, or by a file.

use std::pin::Pin;

use base64::Engine;
use futures_util::StreamExt;
use gauntlet_common::snapshot::ErrorClass;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Question;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;
use tonic_reflection::pb::v1::server_reflection_server::{ServerReflection, ServerReflectionServer};
use tonic_reflection::pb::v1::{
    ErrorResponse, ListServiceResponse, ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};

use crate::own::{Reflection, descriptors, serve};
use crate::support::{Told, plan, run_one};

/// A server that tells of its services as `answer` does: its address.
fn tells(answer: impl Fn(&Question) -> Answer + Clone + Send + Sync + 'static) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let service = ServerReflectionServer::new(Tells(answer));
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
    });
    address
}

struct Tells<F>(F);

#[tonic::async_trait]
impl<F: Fn(&Question) -> Answer + Clone + Send + Sync + 'static> ServerReflection for Tells<F> {
    type ServerReflectionInfoStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

    async fn server_reflection_info(
        &self,
        request: Request<tonic::Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let answer = self.0.clone();
        let answers = request.into_inner().map(move |question| {
            let message_response = question?.message_request.as_ref().map(&answer);
            Ok(ServerReflectionResponse { message_response, ..ServerReflectionResponse::default() })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn load(address: &str, settings: Value, method: &str, message: Value) -> Told {
    let call =
        json!({ "call": { "method": method, "name": "a", "json": message, "capture": { "r": "json /reservation" } } });
    let w = json!({ "driver": "grpc", "target": format!("http://{address}"), "timeout": "2s", "settings": settings,
                    "flow": [call], "load": { "p": { "iterations": 20, "users": 4 } } });
    run_one(&plan(2_000, 1, w, &[]))
}

const RESERVE: &str = "shop.v1.Stock/Reserve";

#[test]
fn a_target_that_tells_of_its_services_is_called_by_them_in_both_versions() {
    for reflection in [Reflection::V1, Reflection::V1Alpha] {
        let (address, books) = serve(reflection);
        let told =
            load(&address, json!({ "reflection": true }), RESERVE, json!({ "item": "x", "count": "{{ int(1,9) }}" }));
        assert_eq!((told.count(0, true), told.total()), (20, 20), "{reflection:?}: {:?}", told.failed);
        assert_eq!(books.lock().unwrap().reserved, 20);
    }
}

#[test]
fn a_file_of_descriptors_does_instead() {
    let (address, books) = serve(Reflection::None);
    let embedded = format!("base64:{}", base64::engine::general_purpose::STANDARD.encode(descriptors()));
    let told = load(&address, json!({ "descriptors": embedded }), RESERVE, json!({ "item": "x" }));
    assert_eq!((told.count(0, true), told.errors(ErrorClass::Status)), (20, 0), "{:?}", told.failed);
    assert_eq!(books.lock().unwrap().reserved, 20);
}

#[test]
fn what_the_target_does_not_have_or_tell_is_refused_before_any_load() {
    let (address, books) = serve(Reflection::V1);
    let refused = |address: &str, method: &str, message: Value| {
        let told = load(address, json!({ "reflection": true }), method, message);
        assert_eq!(told.total(), 0);
        told.failed.unwrap()
    };
    let service = refused(&address, "shop.v1.Stok/Reserve", json!({}));
    assert!(service.contains("did you mean `shop.v1.Stock`?"), "{service}");
    let method = refused(&address, "shop.v1.Stock/Reserv", json!({}));
    assert!(method.contains("step a") && method.contains("did you mean `Reserve`?"), "{method}");
    let field = refused(&address, RESERVE, json!({ "itm": "x" }));
    assert!(field.contains("did you mean `item`?"), "{field}");
    let (mute, _) = serve(Reflection::None);
    let mute = refused(&mute, RESERVE, json!({}));
    assert!(mute.contains("neither v1 nor v1alpha") && mute.contains("descriptors"), "{mute}");
    let nobody = refused("127.0.0.1:1", RESERVE, json!({}));
    assert!(nobody.contains("127.0.0.1:1") && nobody.contains("no connection"), "{nobody}");
    assert_eq!(books.lock().unwrap().reserved, 0);
}

#[test]
fn what_a_target_says_is_told_by_its_beginning_however_long_it_is() {
    let list = |name: &str| {
        let service = vec![ServiceResponse { name: name.into() }];
        Answer::ListServicesResponse(ListServiceResponse { service })
    };
    let refused = |address: &str| load(address, json!({ "reflection": true }), RESERVE, json!({})).failed.unwrap();
    let names = refused(&tells(move |_| list(&"n".repeat(1_000_000))));
    assert!(names.contains("there is no service") && names.contains("nnn"), "{}", names.len());
    let error = refused(&tells(move |question| match question {
        Question::ListServices(_) => list("shop.v1.Stock"),
        _ => Answer::ErrorResponse(ErrorResponse { error_code: 5, error_message: "é".repeat(1_000_000) }),
    }));
    assert!(error.contains("the file of `shop.v1.Stock`: éé"), "{}", error.len());
    let other = refused(&tells(move |question| match question {
        Question::ListServices(_) => list("shop.v1.Stock"),
        _ => list(&"o".repeat(1_000_000)),
    }));
    assert!(other.contains("asked for files and answered with a list of services"), "{}", other.len());
    assert!([&names, &error, &other].iter().all(|text| text.chars().count() < 600));
}
