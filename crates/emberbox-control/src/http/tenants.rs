//! Tenants and their users, for operators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    ApiKey, CreateApiKey, CreateTenant, CreateUser, CreatedApiKey, Data, ErrorCode, ErrorResponse,
    FieldError, OwnLimits, Page, Tenant, Time, UpdateTenant, User,
};
use emberbox_core::{Shape, TenantId, TenantLimits};
use emberbox_store::{
    KeyKind, NewTenant, RESERVED_SLUG, Standing, TenantEdit, TenantError, TenantRecord, TooMany,
    UserError, UserRecord, UserRemoval,
};
use serde_json::json;

use super::auth::{Auth, PathText, SecondPathText};
use super::json::{JsonBody, QueryString};
use super::keys;
use super::page::PageQuery;
use super::sandboxes::parse::Fields;
use crate::Failure;
use crate::control::Control;

/// Longest slug: with a deployment's in front of it well inside a host name.
const SLUG_MAX: usize = 40;

/// Most of anything that is counted, and the largest size in MiB: far beyond
/// any machine, far from where sums overflow.
const COUNT_MAX: u32 = 1_000_000;
const MIB_MAX: u32 = 16 * 1024 * 1024;

/// Largest upload that may be allowed: it streams, but it is one request.
const UPLOAD_MAX: u64 = 1 << 40;

/// Longest exec that may be allowed, in seconds: a day.
const EXEC_MAX_SEC: u32 = 24 * 3600;

/// List tenants
#[utoipa::path(get, path = "/admin/tenants", tag = "admin", params(PageQuery),
    responses((status = 200, body = Page<Tenant>), (status = 403, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(_operator): Auth,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<Tenant>>, Failure> {
    let records = control.store().tenants().await?;
    Ok(Json(page.of(records.into_iter().map(show).collect())?))
}

/// Create a tenant with an owner, a workspace and a project, and no key
#[utoipa::path(post, path = "/admin/tenants", tag = "admin", request_body = CreateTenant,
    responses((status = 201, body = Data<Tenant>), (status = 403, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(_operator): Auth,
    JsonBody(body): JsonBody<CreateTenant>,
) -> Result<(StatusCode, Json<Data<Tenant>>), Failure> {
    let mut fields = Fields::default();
    let slug = fields.slug("slug", body.slug, SLUG_MAX);
    fields.require(
        slug.as_deref() != Some(RESERVED_SLUG),
        "slug",
        "is the platform's own",
    );
    let new = NewTenant {
        name: fields.text("name", Some(body.name)).unwrap_or_default(),
        slug,
        limits: limits(&body.limits, &mut fields.errors),
    };
    let new = fields.done(new)?;
    let data = show(control.store().insert_tenant(&new).await?);
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// Get a tenant
#[utoipa::path(get, path = "/admin/tenants/{id}", tag = "admin",
    params(("id" = String, Path, description = "Tenant id")),
    responses((status = 200, body = Data<Tenant>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(_operator): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Tenant>>, Failure> {
    let data = show(known(&control, &id).await?);
    Ok(Json(Data { data }))
}

/// Change a tenant's name or limits, suspend it or take that back
#[utoipa::path(patch, path = "/admin/tenants/{id}", tag = "admin",
    params(("id" = String, Path, description = "Tenant id")), request_body = UpdateTenant,
    responses((status = 200, body = Data<Tenant>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn update(
    State(control): State<Arc<Control>>,
    Auth(_operator): Auth,
    PathText(id): PathText,
    JsonBody(body): JsonBody<UpdateTenant>,
) -> Result<Json<Data<Tenant>>, Failure> {
    let id = parse_id(&id)?;
    let mut fields = Fields::default();
    let edit = TenantEdit {
        name: fields.text("name", body.name),
        limits: body.limits.map(|own| limits(&own, &mut fields.errors)),
        standing: body.suspended.map(|suspended| match suspended {
            true => Standing::Suspended,
            false => Standing::Active,
        }),
    };
    let edit = fields.done(edit)?;
    let data = show(control.store().change_tenant(&id, &edit).await?);
    control.keys_changed();
    Ok(Json(Data { data }))
}

/// Delete a tenant that has no sandboxes left; its account and history stay
#[utoipa::path(delete, path = "/admin/tenants/{id}", tag = "admin",
    params(("id" = String, Path, description = "Tenant id")),
    responses((status = 204), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    Auth(_operator): Auth,
    PathText(id): PathText,
) -> Result<StatusCode, Failure> {
    control.store().delete_tenant(&parse_id(&id)?).await?;
    control.keys_changed();
    // Its deployments' routes go.
    control.times_changed();
    Ok(StatusCode::NO_CONTENT)
}

/// List a tenant's users
#[utoipa::path(get, path = "/admin/tenants/{id}/users", tag = "admin",
    params(("id" = String, Path, description = "Tenant id"), PageQuery),
    responses((status = 200, body = Page<User>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn users(
    State(control): State<Arc<Control>>,
    Auth(_operator): Auth,
    PathText(id): PathText,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<User>>, Failure> {
    let tenant = known(&control, &id).await?;
    let users = control.store().users(&tenant.id).await?;
    Ok(Json(page.of(users.into_iter().map(show_user).collect())?))
}

/// Create a user of a tenant
#[utoipa::path(post, path = "/admin/tenants/{id}/users", tag = "admin",
    params(("id" = String, Path, description = "Tenant id")), request_body = CreateUser,
    responses((status = 201, body = Data<User>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn create_user(
    State(control): State<Arc<Control>>,
    Auth(_operator): Auth,
    PathText(id): PathText,
    JsonBody(body): JsonBody<CreateUser>,
) -> Result<(StatusCode, Json<Data<User>>), Failure> {
    let tenant = known(&control, &id).await?;
    let mut fields = Fields::default();
    let name = fields.text("name", Some(body.name)).unwrap_or_default();
    let email = fields.text("email", body.email);
    fields.done(())?;
    let store = control.store();
    let max = tenant.limits.over(&control.settings().limits).max_users;
    let user = store
        .create_user(&tenant.id, &name, email.as_deref(), max)
        .await?;
    let data = show_user(user);
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// Remove a user of a tenant; its keys are revoked, what it made stays
#[utoipa::path(delete, path = "/admin/tenants/{id}/users/{user_id}", tag = "admin",
    params(("id" = String, Path, description = "Tenant id"),
        ("user_id" = String, Path, description = "User id")),
    responses((status = 204), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse)))]
pub(super) async fn remove_user(
    State(control): State<Arc<Control>>,
    Auth(_operator): Auth,
    PathText(id): PathText,
    SecondPathText(user): SecondPathText,
) -> Result<StatusCode, Failure> {
    let tenant = known(&control, &id).await?;
    let unknown = || Failure::new(ErrorCode::NotFound, "user not found");
    let user = user.parse().map_err(|_| unknown())?;
    match control.store().remove_user(&tenant.id, &user).await? {
        UserRemoval::Done => {}
        UserRemoval::NoUser => return Err(unknown()),
        UserRemoval::LastOne => {
            return Err(Failure::new(
                ErrorCode::ResourceInUse,
                "a tenant's last user stays: somebody owns what is made",
            ));
        }
    }
    control.keys_changed();
    Ok(StatusCode::NO_CONTENT)
}

/// List a tenant's API keys
#[utoipa::path(get, path = "/admin/tenants/{id}/api-keys", tag = "admin",
    params(("id" = String, Path, description = "Tenant id"), PageQuery),
    responses((status = 200, body = Page<ApiKey>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn keys(
    State(control): State<Arc<Control>>,
    Auth(_operator): Auth,
    PathText(id): PathText,
    QueryString(page): QueryString<PageQuery>,
) -> Result<Json<Page<ApiKey>>, Failure> {
    let tenant = known(&control, &id).await?;
    let store = control.store();
    let keys = store.list_keys(&tenant.id, KeyKind::Key, None).await?;
    Ok(Json(page.of(keys.into_iter().map(keys::show).collect())?))
}

/// Create an API key of a tenant, for its first user unless another is named;
/// its secret is shown this once
#[utoipa::path(post, path = "/admin/tenants/{id}/api-keys", tag = "admin",
    params(("id" = String, Path, description = "Tenant id")), request_body = CreateApiKey,
    responses((status = 201, body = Data<CreatedApiKey>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn create_key(
    State(control): State<Arc<Control>>,
    Auth(operator): Auth,
    PathText(id): PathText,
    JsonBody(body): JsonBody<CreateApiKey>,
) -> Result<(StatusCode, Json<Data<CreatedApiKey>>), Failure> {
    let tenant = known(&control, &id).await?;
    let new = keys::parse(body, &operator)?;
    let max = tenant.limits.over(&control.settings().limits).max_keys;
    let made = control.store().create_key(&tenant.id, new, max).await?;
    Ok((StatusCode::CREATED, Json(keys::show_secret(made))))
}

async fn known(control: &Control, id: &str) -> Result<TenantRecord, Failure> {
    let found = control.store().tenant(&parse_id(id)?).await?;
    Ok(found.ok_or(TenantError::NotFound)?)
}

/// What is no identifier names nothing, like one that nobody has.
fn parse_id(id: &str) -> Result<TenantId, Failure> {
    id.parse().map_err(|_| TenantError::NotFound.into())
}

fn limits(own: &OwnLimits, errors: &mut Vec<FieldError>) -> TenantLimits {
    let mut number = |field: &str, value: Option<i64>, min: u32, max: u64| {
        let value = value?;
        let legal = u64::try_from(value).ok();
        let legal = legal.filter(|value| (u64::from(min)..=max).contains(value));
        if legal.is_none() {
            let message = format!("must be between {min} and {max}");
            errors.push(FieldError::new(format!("limits.{field}"), message));
        }
        legal
    };
    let mut small = |field: &str, value: Option<i64>, min: u32, max: u32| {
        let value = number(field, value, min, max.into());
        value.and_then(|value| u32::try_from(value).ok())
    };
    // Whoever names no shape gets the default one, which must be allowed.
    let default = Shape::DEFAULT;
    TenantLimits {
        max_sandboxes: small("max_sandboxes", own.max_sandboxes, 0, COUNT_MAX),
        max_vcpus: small("max_vcpus", own.max_vcpus, default.vcpus, COUNT_MAX),
        max_memory_mib: small(
            "max_memory_mib",
            own.max_memory_mib,
            default.memory_mib,
            MIB_MAX,
        ),
        max_disk_mib: small("max_disk_mib", own.max_disk_mib, default.disk_mib, MIB_MAX),
        max_snapshots: small("max_snapshots", own.max_snapshots, 0, COUNT_MAX),
        max_workspaces: small("max_workspaces", own.max_workspaces, 0, COUNT_MAX),
        max_projects: small("max_projects", own.max_projects, 0, COUNT_MAX),
        max_users: small("max_users", own.max_users, 0, COUNT_MAX),
        max_keys: small("max_keys", own.max_keys, 0, COUNT_MAX),
        max_exec_timeout_sec: small(
            "max_exec_timeout_sec",
            own.max_exec_timeout_sec,
            1,
            EXEC_MAX_SEC,
        ),
        requests_per_minute: small("requests_per_minute", own.requests_per_minute, 0, COUNT_MAX),
        max_upload_bytes: number("max_upload_bytes", own.max_upload_bytes, 0, UPLOAD_MAX),
    }
}

fn show(record: TenantRecord) -> Tenant {
    Tenant {
        id: record.id,
        slug: record.slug,
        name: record.name,
        limits: record.limits.into(),
        created_at: Time(record.created_at),
        suspended_at: record.suspended_at.map(Time),
    }
}

fn show_user(record: UserRecord) -> User {
    User {
        id: record.id,
        name: record.name,
        email: record.email,
        created_at: Time(record.created_at),
    }
}

impl From<TooMany> for Failure {
    fn from(error: TooMany) -> Self {
        let failure = Self::new(ErrorCode::TenantLimitExceeded, error.to_string());
        failure.with_details(json!({ "limit": error.limit(), "max": error.max }))
    }
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        match error {
            UserError::TooMany(error) => error.into(),
            UserError::Store(error) => error.into(),
        }
    }
}

impl From<TenantError> for Failure {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::NotFound => Self::new(ErrorCode::NotFound, "tenant not found"),
            TenantError::SlugTaken => {
                Self::new(ErrorCode::NameTaken, "another tenant has the slug")
            }
            TenantError::First => Self::new(
                ErrorCode::ResourceInUse,
                "the operator's own tenant is neither suspended nor deleted",
            ),
            TenantError::InUse(held) => Self::new(
                ErrorCode::ResourceInUse,
                format!("the tenant has {held} sandboxes"),
            ),
            TenantError::Store(error) => error.into(),
        }
    }
}
