//! What ran, and what it came to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use emberbox_api::{
    Data, ErrorResponse, FieldError, Measurement, MeasurementStatus, SandboxUsage, Time,
    UsageGroup, UsageReport, UsageSession, UsageSummary, UsageTotals,
};
use emberbox_store::{Bounds, ExternalIds, UsageFilter, UsageGrouping};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Auth, Target};
use super::json::QueryString;
use super::sandboxes::timeout_remaining_ms;
use crate::Failure;
use crate::control::Control;

/// Sessions of one answer unless told otherwise.
const SESSIONS: u32 = 100;

/// Most sessions or groups of one answer: some hundred kilobytes.
const MOST: u32 = 1000;

/// Micro-credits of a hundredth of a credit.
const MICRO_PER_CENT: i64 = 10_000;

/// How usage may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct UsageQuery {
    /// The first moment, ISO-8601; the first of this month when absent.
    start: Option<String>,
    /// Another name of `start`.
    period_start: Option<String>,
    /// The moment after the last; now when absent.
    end: Option<String>,
    /// Another name of `end`.
    period_end: Option<String>,
    /// In place of both: `7d` (any number of days), `24h` or `month-to-date`.
    period: Option<String>,
    /// Of this workspace.
    workspace_id: Option<String>,
    /// Of this project.
    project_id: Option<String>,
    /// Of this sandbox.
    sandbox_id: Option<String>,
    /// With this external workspace id.
    external_workspace_id: Option<String>,
    /// With this external user id.
    external_user_id: Option<String>,
    /// With this external project id.
    external_project_id: Option<String>,
    /// What the groups of a report are: `sandbox_id` (when absent),
    /// `workspace_id`, `project_id`, `external_workspace_id`,
    /// `external_user_id` or `external_project_id`.
    group_by: Option<String>,
    /// Most sessions or groups, at most 1000.
    limit: Option<String>,
}

/// Usage of a period, by sandbox or another group
#[utoipa::path(get, path = "/usage", tag = "usage", params(UsageQuery),
    responses((status = 200, body = Data<UsageReport>), (status = 422, body = ErrorResponse)))]
pub(super) async fn report(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<UsageQuery>,
) -> Result<Json<Data<UsageReport>>, Failure> {
    let filter = query.filter(&caller.bounds, Timestamp::now())?;
    let (group_by, grouping) = query.grouping()?;
    let limit = query.limit(MOST)?;
    let store = control.store();
    let groups = store.usage_groups(&caller.tenant, &filter, grouping, limit);
    let results = groups.await?.into_iter().map(|group| UsageGroup {
        group: group.group,
        totals: show(&group.totals),
    });
    let data = UsageReport {
        period_start: Time(filter.from),
        period_end: Time(filter.until),
        group_by,
        results: results.collect(),
    };
    Ok(Json(Data { data }))
}

/// Usage of a period in one sum
#[utoipa::path(get, path = "/usage/summary", tag = "usage", params(UsageQuery),
    responses((status = 200, body = Data<UsageSummary>), (status = 422, body = ErrorResponse)))]
pub(super) async fn summary(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<UsageQuery>,
) -> Result<Json<Data<UsageSummary>>, Failure> {
    let filter = query.filter(&caller.bounds, Timestamp::now())?;
    let totals = control
        .store()
        .usage_totals(&caller.tenant, &filter)
        .await?;
    let data = UsageSummary {
        period_start: Time(filter.from),
        period_end: Time(filter.until),
        totals: show(&totals),
    };
    Ok(Json(Data { data }))
}

/// The stretches of sandboxes' lives that counted in a period, newest first
#[utoipa::path(get, path = "/usage/sessions", tag = "usage", params(UsageQuery),
    responses((status = 200, body = Data<Vec<UsageSession>>), (status = 422, body = ErrorResponse)))]
pub(super) async fn sessions(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<UsageQuery>,
) -> Result<Json<Data<Vec<UsageSession>>>, Failure> {
    let filter = query.filter(&caller.bounds, Timestamp::now())?;
    let limit = query.limit(SESSIONS)?;
    let store = control.store();
    let sessions = store.usage_sessions(&caller.tenant, &filter, limit).await?;
    let data = sessions.into_iter().map(|session| UsageSession {
        id: session.id,
        sandbox_id: session.sandbox,
        workspace_id: session.workspace_id,
        project_id: session.project_id,
        kind: session.kind.as_str().to_owned(),
        started_at: Time(session.opened_at),
        ended_at: session.ended_at.map(Time),
        settled_until: Time(session.settled_until),
        totals: show(&session.totals),
    });
    let data = data.collect();
    Ok(Json(Data { data }))
}

/// What a sandbox used so far
#[utoipa::path(get, path = "/sandboxes/{id}/usage", tag = "usage",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Data<SandboxUsage>), (status = 404, body = ErrorResponse)))]
pub(super) async fn of_sandbox(
    State(control): State<Arc<Control>>,
    target: Target,
) -> Result<Json<Data<SandboxUsage>>, Failure> {
    control.note_readings(&target.record).await?;
    let now = Timestamp::now();
    let used = control.store().sandbox_use(&target.record, now).await?;
    let totals = show(&used.totals);
    let sampled = if totals.active_cpu_ms > 0 || totals.runtime_sec == 0 {
        Measurement::Sampled
    } else {
        Measurement::Unavailable
    };
    let data = SandboxUsage {
        state: target.record.state,
        runtime_sec: totals.runtime_sec,
        provisioned_vcpu_ms: totals.provisioned_vcpu_ms,
        provisioned_memory_mb_ms: totals.provisioned_memory_mb_ms,
        provisioned_disk_mb_ms: totals.provisioned_disk_mb_ms,
        creation_count: used.starts,
        active_cpu_ms: totals.active_cpu_ms,
        network_egress_bytes: totals.network_egress_bytes,
        network_ingress_bytes: totals.network_ingress_bytes,
        measurement_status: MeasurementStatus {
            runtime: Measurement::Measured,
            network: Measurement::Measured,
            active_cpu: sampled,
        },
        estimated_cost_micro: totals.charged_micro,
        estimated_cost_cents: round_up(totals.charged_micro, MICRO_PER_CENT),
        timeout_sec: target.record.timeout_sec,
        timeout_remaining_ms: timeout_remaining_ms(&target.record),
        sandbox_id: target.record.id,
    };
    Ok(Json(Data { data }))
}

impl UsageQuery {
    fn filter(&self, bounds: &Bounds, now: Timestamp) -> Result<UsageFilter, Failure> {
        let mut errors = Vec::new();
        let mut id = |field: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(str::parse).transpose();
            parsed.unwrap_or_else(|_| {
                errors.push(FieldError::new(field, "must be a UUID"));
                None
            })
        };
        let workspace_id = id("workspace_id", &self.workspace_id);
        let project_id = id("project_id", &self.project_id);
        let (from, until) = self.period(now, &mut errors);
        let sandbox = self.sandbox_id.as_deref().map(str::parse).transpose();
        let sandbox = sandbox.unwrap_or_else(|_| {
            errors.push(FieldError::new("sandbox_id", "is not a sandbox's id"));
            None
        });
        if !errors.is_empty() {
            return Err(Failure::invalid(&errors));
        }
        let external_user_id = &self.external_user_id;
        for (field, other) in [
            (
                "workspace_id",
                workspace_id.is_some_and(|asked| !bounds.reach(asked)),
            ),
            (
                "external_user_id",
                bounds.end_user.is_some()
                    && external_user_id.is_some()
                    && *external_user_id != bounds.end_user,
            ),
        ] {
            if other {
                let message = "is not the one the key is bound to";
                return Err(Failure::invalid_field(field, message));
            }
        }
        Ok(UsageFilter {
            from,
            until,
            workspace_id: workspace_id.or(bounds.workspace),
            project_id,
            sandbox,
            external: ExternalIds {
                workspace: self.external_workspace_id.clone(),
                user: external_user_id.clone().or_else(|| bounds.end_user.clone()),
                project: self.external_project_id.clone(),
            },
        })
    }

    fn period(&self, now: Timestamp, errors: &mut Vec<FieldError>) -> (Timestamp, Timestamp) {
        let mut moment = |names: [(&str, &Option<String>); 2]| {
            let (field, text) = names.into_iter().find(|(_, text)| text.is_some())?;
            let parsed = text.as_deref()?.parse::<Timestamp>();
            if parsed.is_err() {
                let message = "must be a time such as 2026-01-31T00:00:00Z";
                errors.push(FieldError::new(field, message));
            }
            parsed.ok()
        };
        let start = moment([("start", &self.start), ("period_start", &self.period_start)]);
        let end = moment([("end", &self.end), ("period_end", &self.period_end)]);
        let until = end.unwrap_or(now);
        let from = match (start, self.period.as_deref()) {
            (Some(start), _) => Some(start),
            (None, None | Some("month-to-date")) => first_of_month(until),
            (None, Some(period)) => length(period).and_then(|long| until.checked_sub(long).ok()),
        };
        let from = from.unwrap_or_else(|| {
            let message =
                "must be a number of days such as 7d, of hours such as 24h, or month-to-date";
            errors.push(FieldError::new("period", message));
            until
        });
        if from > until {
            errors.push(FieldError::new("start", "must not be after the end"));
        }
        (from, until)
    }

    fn grouping(&self) -> Result<(String, UsageGrouping), Failure> {
        let name = self.group_by.as_deref().unwrap_or("sandbox_id");
        let grouping = match name {
            "sandbox_id" => UsageGrouping::Sandbox,
            "workspace_id" => UsageGrouping::Workspace,
            "project_id" => UsageGrouping::Project,
            "external_workspace_id" => UsageGrouping::ExternalWorkspace,
            "external_user_id" => UsageGrouping::ExternalUser,
            "external_project_id" => UsageGrouping::ExternalProject,
            _ => {
                let message = "must be sandbox_id, workspace_id, project_id, \
                    external_workspace_id, external_user_id or external_project_id";
                return Err(Failure::invalid_field("group_by", message));
            }
        };
        Ok((name.to_owned(), grouping))
    }

    fn limit(&self, default: u32) -> Result<u32, Failure> {
        limit(self.limit.as_deref(), default, MOST)
    }
}

/// A number of things to list.
pub(super) fn limit(text: Option<&str>, default: u32, most: u32) -> Result<u32, Failure> {
    let Some(text) = text else {
        return Ok(default);
    };
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| Failure::invalid_field("limit", format!("must be between 1 and {most}")))
}

/// `7d` or `24h`.
pub(super) fn length(text: &str) -> Option<SignedDuration> {
    let (unit_sec, number) = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)]
        .into_iter()
        .find_map(|(unit, sec)| Some((sec, text.strip_suffix(unit)?)))?;
    let number: u32 = number.parse().ok().filter(|number| *number > 0)?;
    Some(SignedDuration::from_secs(i64::from(number) * unit_sec))
}

fn first_of_month(moment: Timestamp) -> Option<Timestamp> {
    let first = moment.to_zoned(TimeZone::UTC).first_of_month().ok()?;
    Some(first.start_of_day().ok()?.timestamp())
}

fn show(totals: &emberbox_store::UsageTotals) -> UsageTotals {
    UsageTotals {
        sandbox_count: totals.sandboxes,
        session_count: totals.segments,
        runtime_sec: round_up(totals.runtime_ms, 1000),
        provisioned_vcpu_ms: totals.vcpu_ms,
        provisioned_memory_mb_ms: totals.memory_mib_ms,
        provisioned_disk_mb_ms: totals.disk_mib_ms,
        active_cpu_ms: totals.active_cpu_ms,
        network_egress_bytes: totals.egress_bytes,
        network_ingress_bytes: totals.ingress_bytes,
        charged_micro: totals.charged_micro,
    }
}

fn round_up(value: i64, unit: i64) -> i64 {
    value / unit + i64::from(value % unit > 0)
}

#[cfg(test)]
mod tests;
