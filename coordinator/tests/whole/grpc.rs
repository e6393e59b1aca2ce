//! Load by gRPC, through the whole system.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::own::{Books, Reflection, descriptors, serve};
use crate::support::{Done, Lab, beside, free_port, repository};

#[test]
fn every_id_of_an_answer_that_names_several_is_looked_for() {
    let lab = Lab::new();
    let text = std::fs::read_to_string(beside("scenarios/batches.yaml")).unwrap();
    let file = lab.write("batches.yaml", &text);
    let report = lab.run(&file, &[]).ended_with(0);
    let answered = report["workloads"]["writers"]["ok"].as_u64().unwrap();
    let looked_for = report["checks"][0]["samples"].as_u64().unwrap();
    assert!(answered > 0 && looked_for == 3 * answered, "{looked_for} ids of {answered} answers");
    let report = lab.run(&file, &["--set", "roles.store.events=memory"]).ended_with(11);
    assert_eq!(report["checks"][0]["result"], Value::from("fail"));
}

/// The shipped example, as one would copy it, for less long; with these settings.
fn example(lab: &Lab, settings: &str) -> PathBuf {
    let text = std::fs::read_to_string(repository("scenarios/examples/own-grpc.yaml")).unwrap();
    for written in ["{ reflection: true }", "for: 5s"] {
        assert!(text.contains(written));
    }
    lab.write("mine.yaml", &text.replace("{ reflection: true }", settings).replace("for: 5s", "for: 2s"))
}

fn against(lab: &Lab, scenario: &Path, address: &str) -> Done {
    let target = format!("workloads.buyers.target=http://{address}");
    let wide =
        ["guards.start_spread=5s", "guards.not_issued=50%", "guards.lateness=10s", "guards.clock_uncertainty=1s"];
    let args = ["--set", &target].into_iter().chain(wide.iter().flat_map(|guard| ["--set", guard]));
    lab.run(scenario, &args.collect::<Vec<_>>())
}

/// Gauntlet's figures are the service's own.
fn agree(report: &Value, books: &Books) {
    let ok = report["workloads"]["buyers"]["ok"].as_u64().unwrap();
    assert_eq!(ok, books.reserved + books.released);
    assert!(books.released > 50, "{books:?}");
}

#[test]
fn a_service_of_the_users_own_is_driven_without_code_by_its_reflection_or_by_a_file() {
    let lab = Lab::light();
    let (address, books) = serve(Reflection::V1);
    agree(&against(&lab, &example(&lab, "{ reflection: true }"), &address).ended_with(0), &books.lock().unwrap());
    let (address, books) = serve(Reflection::None);
    std::fs::write(lab.path("shop.bin"), descriptors()).unwrap();
    agree(&against(&lab, &example(&lab, "{ descriptors: shop.bin }"), &address).ended_with(0), &books.lock().unwrap());
}

#[test]
fn services_that_cannot_be_asked_for_end_the_run_before_any_load_with_what_to_mend() {
    let lab = Lab::light();
    let scenario = example(&lab, "{ reflection: true }");
    let refused = |scenario: &Path, address: &str, say: &str| {
        let done = against(&lab, scenario, address);
        assert!(done.code == 6 && done.stderr.contains(say), "{say}: {done}");
    };
    let (mute, _) = serve(Reflection::None);
    refused(&scenario, &mute, "name a file of descriptors instead");
    refused(&scenario, &format!("127.0.0.1:{}", free_port("127.0.0.1")), "no connection");
    let (old, _) = serve(Reflection::V1Alpha);
    let text = std::fs::read_to_string(&scenario).unwrap();
    let misspelt = lab.write("misspelt.yaml", &text.replace("Stock/Release", "Stock/Relese"));
    refused(&misspelt, &old, "did you mean `Release`?");
}

#[test]
fn a_file_of_descriptors_that_tells_nothing_is_refused_before_anything_runs() {
    let lab = Lab::light();
    let scenario = example(&lab, "{ descriptors: shop.bin }");
    let check = || lab.output(&["check", scenario.to_str().unwrap()]);
    let whole = descriptors();
    for (bytes, says) in [
        (None, "shop.bin cannot be read"),
        (Some(vec![]), "0 bytes and no service"),
        (Some(whole[..whole.len() / 2].to_vec()), "no complete FileDescriptorSet"),
        (Some(vec![0; 2 * 1024 * 1024]), "is it the right file?"),
    ] {
        if let Some(bytes) = bytes {
            std::fs::write(lab.path("shop.bin"), bytes).unwrap();
        }
        let (code, _, stderr) = check();
        assert!(code == 3 && stderr.contains(says), "{says}: {code} {stderr}");
    }
    std::fs::write(lab.path("shop.bin"), whole).unwrap();
    assert_eq!(check().0, 0);
}
