//! Load by gRPC, through the whole system.

use serde_json::Value;

use crate::support::{Lab, beside};

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
