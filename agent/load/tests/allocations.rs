//! The hot path allocates nothing for a request. A binary of its own: its allocator counts.

// The whole file is test code, helpers included; the helpers are the load tests', which use all of them.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "load/support.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

/// The system's allocator, and how often the load's own threads asked it.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

fn count() {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the buffer's size, and allocates nothing.
    unsafe { nix::libc::prctl(nix::libc::PR_GET_NAME, name.as_mut_ptr()) };
    if name.starts_with(b"load\0") {
        ASKED.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: all is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// (requests made, allocations) of a load of so many iterations of two requests, or as many as 6 s suffice for.
fn load(iterations: u64) -> (u64, u64) {
    let server = support::server(|_, _| support::ok("hi"));
    let request = |name: &str| {
        json!({ "post": { "path": format!("/{name}/{{{{ user }}}}/{{{{ uuid }}}}"), "name": name, "json": { "n": "{{ int(1,9) }}" },
                          "expect": { "status": 200 } } })
    };
    let flow = json!([request("a"), { "choose": [request("b"), request("c")] }]);
    let load = json!({ "iterations": iterations, "users": 8 });
    let workload = json!({ "driver": "http", "target": format!("http://{}", server.address), "flow": flow, "load": { "p": load } });
    let before = ASKED.load(Ordering::Relaxed);
    let told = support::run_one(&support::plan(6_000, 1, workload, &[]));
    assert_eq!(told.total(), told.count(0, true) + told.count(1, true) + told.count(2, true));
    (told.total(), ASKED.load(Ordering::Relaxed) - before)
}

#[test]
fn a_request_allocates_nothing_once_its_connection_and_its_second_are_there() {
    let (few, many) = (load(200), load(5_200));
    assert!(few.1 > 0, "nothing is counted");
    let (requests, allocations) = (many.0 - few.0, many.1.saturating_sub(few.1));
    assert!(requests >= 1_000, "{few:?} {many:?}");
    // What grows is the seconds that carry load: each has its histograms and its snapshot.
    assert!(allocations < requests / 4, "{allocations} allocations for {requests} requests more: {few:?} {many:?}");
}
