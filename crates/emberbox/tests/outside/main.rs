//! The server as strangers meet it: the release binary, real microVMs, HTTP
//! and signals.
//!
//! Needs root, `EMBERBOX_BIN` and the guest images in `EMBERBOX_HOME`; `cargo
//! xtask test` sets all of it up. One server serves the tests that do not kill
//! theirs; it is stopped at the end, and then nothing of it may be left.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod answers;
mod apps;
mod bad_files;
mod bad_requests;
mod broken_off;
mod browser;
mod catalog;
mod code;
mod command_line;
mod compatibility;
mod crash;
mod distribution;
mod documents;
mod every_call;
mod exec;
mod files;
mod leak;
mod life;
mod official_client;
mod previews;
mod processes;
mod registry;
mod rig;
mod schema;
mod streams;
mod tenants;
mod terminals;
mod usage;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use rig::Rig;

type Test = fn(&Rig);

const TESTS: &[(&str, Test)] = &[
    (
        "life::a_sandbox_with_defaults_is_described_in_full",
        life::defaults,
    ),
    ("life::lists_show_what_the_filters_say", life::lists),
    ("life::a_name_finds_the_newest", life::by_name),
    (
        "life::readiness_is_told_at_once_and_when_it_comes",
        life::readiness,
    ),
    (
        "life::the_same_idempotency_key_gives_the_same_sandbox",
        life::idempotency,
    ),
    ("life::two_sandboxes_of_one_seed_differ", life::two_differ),
    ("life::destroying_twice_is_safe", life::destroy_twice),
    ("exec::output_code_directory_and_environment", exec::basics),
    ("exec::a_timeout_kills_the_whole_group", exec::timeout),
    ("exec::a_background_child_holds_nobody_up", exec::background),
    ("files::bytes_come_back_as_they_went", files::round_trips),
    ("files::every_way_to_write_a_path_works", files::paths),
    ("files::list_and_stat_describe", files::describe),
    (
        "files::writing_again_replaces_and_keeps_the_mode",
        files::overwrite,
    ),
    (
        "bad_requests::bodies_that_are_not_what_they_should_be",
        bad_requests::bodies,
    ),
    (
        "bad_requests::creates_out_of_range_name_the_field",
        bad_requests::creates,
    ),
    (
        "bad_requests::execs_out_of_range_name_the_field",
        bad_requests::execs,
    ),
    (
        "bad_requests::nothing_works_without_a_valid_key",
        bad_requests::keys,
    ),
    (
        "bad_requests::unknown_routes_have_the_error_shape",
        bad_requests::routes,
    ),
    (
        "bad_requests::unknown_fields_are_ignored",
        bad_requests::unknown_fields,
    ),
    (
        "bad_requests::sandboxes_that_are_not_running_refuse_work",
        bad_requests::not_running,
    ),
    (
        "tenants::another_tenants_sandbox_does_not_exist",
        tenants::another,
    ),
    ("bad_files::paths_that_cannot_be", bad_files::paths),
    ("bad_files::uploads_that_cannot_be", bad_files::uploads),
    (
        "bad_files::a_byte_over_the_limit_leaves_nothing",
        bad_files::over_the_limit,
    ),
    (
        "broken_off::a_body_that_stops_half_way",
        broken_off::half_bodies,
    ),
    (
        "broken_off::a_client_that_leaves_an_exec_kills_it",
        broken_off::during_exec,
    ),
    (
        "broken_off::a_client_that_leaves_a_create_leaves_it_whole",
        broken_off::during_create,
    ),
    (
        "browser::an_edited_file_changes_the_page_by_itself",
        browser::hot_reload,
    ),
    (
        "command_line::over_tls_it_believes_whom_the_machine_believes",
        command_line::over_tls,
    ),
    (
        "documents::every_command_of_previews_md_works",
        documents::previews,
    ),
    (
        "documents::every_command_of_terminal_md_works",
        documents::terminal,
    ),
    (
        "documents::every_command_of_snapshots_md_works",
        documents::snapshots,
    ),
    (
        "catalog::a_seeded_app_answers_at_once_and_makes_way",
        catalog::python,
    ),
    (
        "registry::an_image_of_a_private_registry_becomes_a_sandbox",
        registry::private,
    ),
    (
        "schema::made_up_requests_are_answered_as_the_document_says",
        schema::holds,
    ),
    (
        "streams::an_exec_tells_while_it_runs",
        streams::exec_tells_while_it_runs,
    ),
    (
        "streams::an_exec_ends_with_its_reader",
        streams::exec_ends_with_its_reader,
    ),
    (
        "streams::an_exec_over_its_time_says_so",
        streams::exec_over_its_time_says_so,
    ),
    (
        "streams::events_tell_a_whole_life",
        streams::events_of_a_whole_life,
    ),
    (
        "streams::a_ticket_opens_one_stream_once",
        streams::a_ticket_opens_one_stream_once,
    ),
    (
        "processes::a_process_from_its_start_to_its_end",
        processes::from_start_to_end,
    ),
    (
        "processes::a_process_outlives_the_server",
        processes::outlives_the_server,
    ),
    (
        "usage::what_leaves_the_network_is_counted_to_the_end",
        usage::egress_is_counted,
    ),
    ("usage::metrics_show_what_a_vm_takes", usage::metrics),
    (
        "usage::a_killed_server_bills_nothing_twice_or_unproven",
        usage::killed,
    ),
    ("code::interpreters_keep_their_variables", code::contexts),
    ("code::exports_come_out_whole", code::exports),
    (
        "terminals::a_shell_is_what_people_expect",
        terminals::a_shell_for_people,
    ),
    (
        "terminals::programs_own_the_screen",
        terminals::programs_that_own_the_screen,
    ),
    (
        "terminals::only_who_may_looks_at_one",
        terminals::who_may_look,
    ),
    (
        "terminals::they_end_with_all_they_started",
        terminals::how_they_end,
    ),
    (
        "terminals::they_outlive_the_server",
        terminals::outlive_the_server,
    ),
    (
        "previews::bytes_come_through_both_ways",
        previews::bytes_both_ways,
    ),
    (
        "previews::streams_and_sockets_come_through",
        previews::streams_and_sockets,
    ),
    (
        "previews::what_is_not_there_is_explained",
        previews::what_is_not_there,
    ),
    (
        "previews::private_ones_want_a_token",
        previews::private_ones,
    ),
    ("previews::tenants_show_their_own", previews::of_two_tenants),
    (
        "apps::a_template_starts_by_itself",
        apps::started_by_themselves,
    ),
    (
        "apps::a_template_starts_when_it_is_asked_to",
        apps::started_when_asked,
    ),
    ("apps::a_deployment_outlives_the_server", apps::deployed),
    (
        "official_client::python_works_unmodified",
        official_client::basics,
    ),
    (
        "official_client::python_streams_shows_and_deploys",
        official_client::streams_and_apps,
    ),
    (
        "compatibility::every_method_of_the_client_does_what_is_published",
        compatibility::holds,
    ),
    (
        "official_client::its_own_test_passes",
        official_client::their_own_test,
    ),
    (
        "crash::killed_while_it_creates_it_finishes_later",
        crash::during_create,
    ),
    (
        "crash::killed_with_prepared_vms_it_finishes_later_and_leaves_none",
        crash::during_claim,
    ),
    (
        "crash::killed_while_it_destroys_it_finishes_later",
        crash::during_destroy,
    ),
    (
        "crash::killed_while_it_starts_the_next_start_finishes",
        crash::during_start,
    ),
];

/// Those that take many minutes under emulation: `cargo xtask test --all` runs
/// them, or `--include-ignored`.
const SLOW: &[(&str, Test)] = &[
    (
        "distribution::a_build_that_was_killed_while_it_is_sent_comes_to_its_end",
        distribution::killed,
    ),
    ("catalog::generated_files_start_anew", catalog::generated),
    ("catalog::nextjs_is_opened", catalog::nextjs),
    ("catalog::streamlit_is_opened", catalog::streamlit),
    ("catalog::gradio_is_opened", catalog::gradio),
    (
        "documents::every_command_of_templates_md_works_over_a_crash",
        documents::templates,
    ),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The tests share two cores with the VMs they start.
    arguments.test_threads = Some(1);
    if arguments.list {
        return ignored(&arguments);
    }
    let binary = match binary() {
        Ok(binary) => binary,
        Err(missing) => {
            eprintln!("tests from outside skipped: {missing}");
            if std::env::var_os("EMBERBOX_REQUIRE_VMS").is_some() {
                return ExitCode::FAILURE;
            }
            return ignored(&arguments);
        }
    };
    let rig = Arc::new(Rig::new(binary));
    let trial = |&(name, test): &(&str, Test)| {
        let rig = Arc::clone(&rig);
        Trial::test(name, move || {
            test(&rig);
            Ok(())
        })
    };
    let slow = SLOW.iter().map(trial);
    let slow = slow.map(|trial| trial.with_kind("slow").with_ignored_flag(true));
    let trials = TESTS.iter().map(trial).chain(slow);
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Err(left) = rig.finish() {
        eprintln!("after the tests: {left}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn ignored(arguments: &Arguments) -> ExitCode {
    let trials = (TESTS.iter().chain(SLOW))
        .map(|(name, _)| Trial::test(*name, || Ok(())).with_ignored_flag(true));
    libtest_mimic::run(arguments, trials.collect()).exit_code()
}

/// The binary under test, or what is missing on this machine.
fn binary() -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can make VMs".to_owned());
    }
    let binary = std::env::var_os("EMBERBOX_BIN").ok_or("EMBERBOX_BIN is not set")?;
    let binary = PathBuf::from(binary);
    let doctor = Command::new(&binary)
        .args(["doctor", "--json"])
        .stderr(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", binary.display()))?;
    if doctor.status.success() {
        Ok(binary)
    } else {
        Err("`emberbox doctor` says something is missing; run `cargo xtask setup`".to_owned())
    }
}
