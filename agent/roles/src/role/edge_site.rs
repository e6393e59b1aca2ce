//! `edge_site`: an edge site in a city. An HTTP/1.1 front that hands edge requests to the nearest healthy [region](super::edge_region) of the
//! user's cloud, and when that cloud is lost, to the nearest healthy one of any.
//!
//! `POST /edge/{kind}?cloud=aws` → 200 with `{"event_id", "region", "processing_ms"}` and the header `x-gauntlet-ack: ROLE.events ID`, which
//! tells a load worker what was acknowledged. An attempt has a deadline of its own; one that failed is made once more, in another cloud. So
//! an action may be performed twice, under one correlation id. Regions are lost after failures in a row, of requests or of the probes that go to
//! each of them all the time, and return after answered probes ([`routing`]).
//!
//! What is nearest is told by the labels `region` of the agents, over great circles. Errors are JSON `{"error": ".."}`: 404 no such kind or path,
//! 413 body too large, 502 region failed, 504 region too late, 503 with `x-gauntlet-overload: 1` when too much is in flight.

mod http;
mod params;
mod routing;
mod site;

use std::sync::Arc;

use gauntlet_common::scenario::{Metric, Problem};
use gauntlet_common::units::Micros;
use tokio::net::TcpListener;

pub use self::params::{Params, Probe};
use self::site::Site;
pub use self::site::{FAILOVER_EVENT, RECOVERY_EVENT};
use super::Role;
use crate::kit::{RoleContext, RoleError, counter, gauge, measure};

/// See the module.
pub struct EdgeSite;

impl Role for EdgeSite {
    const NAME: &'static str = "edge_site";
    const HELP: &'static str = "an HTTP front in a city that sends edge requests to the nearest healthy region";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("requests", "edge requests of users"),
            counter("user_errors", "of these, answered with an error that the user did not cause"),
            counter("region_errors", "attempts that failed"),
            counter("retries", "attempts that followed a failed one"),
            counter("failovers", "requests that succeeded in another region than they began with"),
            counter("traffic_redirected", "requests answered by another cloud than their user's"),
            counter("regions_lost", "times that a region was taken for lost"),
            counter("regions_returned", "times that a lost region served again"),
            counter("overloads", "requests refused because too many were in flight"),
            gauge("in_flight", "requests in flight"),
            gauge("regions_healthy", "regions that it sends requests to"),
            measure("failover_us", "from the start of the failed attempt to the other region's answer"),
            measure("outage_us", "from taking a region for lost to its return"),
        ]
    }

    fn validate(params: &Params) -> Vec<Problem> {
        let mut problems = Vec::new();
        if params.regions.is_empty() {
            let message = "nowhere to send requests; name the roles of the regions: [aws, gcp]".into();
            problems.push(Problem { pointer: "/regions".into(), message });
        }
        let mut too_short = |pointer: &str, what: Micros| {
            if what.0 == 0 {
                problems.push(Problem { pointer: pointer.into(), message: "must be longer than 0s".into() });
            }
        };
        too_short("/deadline_per_attempt", params.deadline_per_attempt);
        too_short("/probe/every", params.probe.every);
        too_short("/probe/deadline", params.probe.deadline);
        problems
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let site = Arc::new(Site::new(context.clone(), params)?);
        context.spawn(http::serve(site.clone(), listener));
        context.spawn(site.clone().tell_failovers());
        for index in 0..site.regions.len() {
            context.spawn(site.clone().watch(index));
        }
        Ok(())
    }
}
