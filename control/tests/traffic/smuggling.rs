//! Hostile HTTP against the whole path: real packets, real steering, the real proxy; behind it a
//! server that keeps each connection's octets. Whatever a client writes, that server must get
//! nothing, or the request that was judged; and in no reading of what it got, however lenient, may
//! there be a request that the policy denies.

mod cases;
mod client;
mod http2;
mod policy;
mod readings;
mod recorder;
mod report;
mod splits;
mod stage;

use report::Report;
use stage::Stage;

#[test]
fn no_reading_of_what_the_server_gets_has_a_denied_request() {
    let stage = Stage::set_up();
    let mut report = Report::default();
    let cases = cases::http1();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    stage.run(&cases, &mut report);
    stage.run(&splits::cases(), &mut report);
    let cases = http2::cases();
    assert!(cases.len() >= 50, "{} cases of HTTP/2", cases.len());
    stage.run_http2(&cases, &mut report);
    stage.read_leniently(&mut report);
    report.close();
}
