//! Clients that nobody sees: what they get, and what they cost.

use std::time::{Duration, Instant};

use crate::paced::Lid;
use crate::setup::{App, desk, releases};

#[test]
fn a_hidden_client_that_draws_whenever_its_buffer_comes_back_has_it_once_in_a_refresh() {
    const REFRESH: Duration = Duration::from_millis(5);
    let desk = desk();
    let mut app = App::new(&desk);
    let (window, buffer) = (app.window(), app.shm_buffer());
    let shown = app.show(&window.surface, &buffer);
    app.until_shown(&shown);
    let _lid = Lid::new(&desk, true, (128, 128));
    app.client.expect_no_error();
    releases(&buffer);
    let (start, mut commits) = (Instant::now(), 0);
    while start.elapsed() < REFRESH * 60 {
        window.surface.attach(Some(&buffer), 0, 0);
        window.surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        window.surface.commit();
        commits += 1;
        app.client.until(|| releases(&buffer) > 0);
    }
    let refreshes = start.elapsed().as_nanos() / REFRESH.as_nanos();
    assert!((5..=refreshes + 2).contains(&commits), "{commits} commits in {refreshes} refreshes");
}
