//! `emberbox tenant …`, `emberbox workspace …` and `emberbox project …`.

use anyhow::Result;
use emberbox_api::{
    CreateProject, CreateTenant, CreateUser, CreateWorkspace, OwnLimits, Project, Tenant,
    UpdateProject, UpdateTenant, UpdateWorkspace, User, Workspace,
};

use crate::cli::{
    ChangePlace, NewPlace, ProjectCommand, TenantCommand, TenantLimits, WorkspaceCommand,
};
use crate::{client, output};

/// Runs one about tenants.
pub(crate) async fn tenant(command: TenantCommand) -> Result<()> {
    let client = client::from_environment()?;
    match command {
        TenantCommand::List { json } => {
            let tenants = client.tenants().await?;
            if json {
                return output::json(&tenants);
            }
            let headings = ["ID", "SLUG", "NAME", "CREATED", "STATE"];
            output::table(&headings, tenants.into_iter().map(tenant_row))
        }
        TenantCommand::Create {
            name,
            slug,
            limits,
            json,
        } => {
            let limits = own_limits(&limits);
            let request = CreateTenant { name, slug, limits };
            let made = client.create_tenant(&request).await?;
            made_one(&made, made.id.as_str(), json)
        }
        TenantCommand::Update {
            id,
            name,
            limits,
            no_limits,
            json,
        } => {
            let limits = own_limits(&limits);
            let named = limits != OwnLimits::default();
            let change = UpdateTenant {
                name,
                limits: (named || no_limits).then_some(limits),
                suspended: None,
            };
            let tenant = client.update_tenant(&id, &change).await?;
            if json { output::json(&tenant) } else { Ok(()) }
        }
        TenantCommand::Suspend { id } => suspend(&client, &id, true).await,
        TenantCommand::Resume { id } => suspend(&client, &id, false).await,
        TenantCommand::Rm { ids } => {
            for id in ids {
                client.delete_tenant(&id).await?;
            }
            Ok(())
        }
        TenantCommand::Users { id, json } => {
            let users = client.users(&id).await?;
            if json {
                return output::json(&users);
            }
            let headings = ["ID", "NAME", "EMAIL", "CREATED"];
            output::table(&headings, users.into_iter().map(user_row))
        }
        TenantCommand::AddUser {
            id,
            name,
            email,
            json,
        } => {
            let made = client.create_user(&id, &CreateUser { name, email }).await?;
            made_one(&made, made.id.as_str(), json)
        }
        TenantCommand::RmUser { id, user } => Ok(client.remove_user(&id, &user).await?),
    }
}

async fn suspend(client: &emberbox_api::client::Client, id: &str, suspended: bool) -> Result<()> {
    let change = UpdateTenant {
        suspended: Some(suspended),
        ..UpdateTenant::default()
    };
    client.update_tenant(id, &change).await?;
    Ok(())
}

/// Runs one about workspaces.
pub(crate) async fn workspace(command: WorkspaceCommand) -> Result<()> {
    let client = client::from_environment()?;
    match command {
        WorkspaceCommand::List { json } => {
            let workspaces = client.workspaces().await?;
            if json {
                return output::json(&workspaces);
            }
            let headings = ["ID", "SLUG", "NAME", "EXTERNAL ID", "CREATED"];
            output::table(&headings, workspaces.into_iter().map(workspace_row))
        }
        WorkspaceCommand::Create(new) => {
            let NewPlace {
                name,
                slug,
                external_id,
                json,
            } = new;
            let request = CreateWorkspace {
                name,
                slug,
                external_workspace_id: external_id,
            };
            let made = client.create_workspace(&request).await?;
            made_one(&made, &made.data.id.to_string(), json)
        }
        WorkspaceCommand::Update(change) => {
            let ChangePlace {
                id,
                name,
                slug,
                external_id,
                json,
            } = change;
            let change = UpdateWorkspace {
                name,
                slug,
                external_workspace_id: external_id.map(Some),
            };
            let changed = client.update_workspace(&id, &change).await?;
            if json { output::json(&changed) } else { Ok(()) }
        }
        WorkspaceCommand::Rm { ids } => {
            for id in ids {
                client.delete_workspace(&id).await?;
            }
            Ok(())
        }
    }
}

/// Runs one about projects.
pub(crate) async fn project(command: ProjectCommand) -> Result<()> {
    let client = client::from_environment()?;
    match command {
        ProjectCommand::List { workspace, json } => {
            let projects = client.projects(workspace.as_deref()).await?;
            if json {
                return output::json(&projects);
            }
            let headings = ["ID", "WORKSPACE", "SLUG", "NAME", "EXTERNAL ID", "CREATED"];
            output::table(&headings, projects.into_iter().map(project_row))
        }
        ProjectCommand::Create { new, workspace } => {
            let NewPlace {
                name,
                slug,
                external_id,
                json,
            } = new;
            let request = CreateProject {
                name,
                slug,
                external_project_id: external_id,
                workspace_id: workspace,
            };
            let made = client.create_project(&request).await?;
            made_one(&made, &made.data.id.to_string(), json)
        }
        ProjectCommand::Update(change) => {
            let ChangePlace {
                id,
                name,
                slug,
                external_id,
                json,
            } = change;
            let change = UpdateProject {
                name,
                slug,
                external_project_id: external_id.map(Some),
            };
            let changed = client.update_project(&id, &change).await?;
            if json { output::json(&changed) } else { Ok(()) }
        }
        ProjectCommand::Rm { ids } => {
            for id in ids {
                client.delete_project(&id).await?;
            }
            Ok(())
        }
    }
}

fn made_one(made: &impl serde::Serialize, id: &str, json: bool) -> Result<()> {
    if json {
        output::json(made)
    } else {
        output::line(id)
    }
}

fn own_limits(limits: &TenantLimits) -> OwnLimits {
    OwnLimits {
        max_sandboxes: limits.max_sandboxes,
        max_vcpus: limits.max_vcpus,
        max_memory_mib: limits.max_memory_mib,
        max_disk_mib: limits.max_disk_mib,
        max_snapshots: limits.max_snapshots,
        max_workspaces: limits.max_workspaces,
        max_projects: limits.max_projects,
        max_users: limits.max_users,
        max_keys: limits.max_keys,
        max_upload_bytes: limits.max_upload_bytes,
        max_exec_timeout_sec: limits.max_exec_timeout_sec,
        requests_per_minute: limits.requests_per_minute,
    }
}

fn tenant_row(tenant: Tenant) -> Vec<String> {
    let state = match tenant.suspended_at {
        Some(at) => format!("suspended {at}"),
        None => "active".to_owned(),
    };
    vec![
        tenant.id.to_string(),
        tenant.slug,
        output::on_one_line(&tenant.name),
        tenant.created_at.to_string(),
        state,
    ]
}

fn user_row(user: User) -> Vec<String> {
    vec![
        user.id.to_string(),
        output::on_one_line(&user.name),
        output::on_one_line(&user.email.unwrap_or_default()),
        user.created_at.to_string(),
    ]
}

fn workspace_row(workspace: Workspace) -> Vec<String> {
    vec![
        workspace.id.to_string(),
        workspace.slug,
        output::on_one_line(&workspace.name),
        output::on_one_line(&workspace.external_workspace_id.unwrap_or_default()),
        workspace.created_at.to_string(),
    ]
}

fn project_row(project: Project) -> Vec<String> {
    vec![
        project.id.to_string(),
        project.workspace_id.to_string(),
        project.slug,
        output::on_one_line(&project.name),
        output::on_one_line(&project.external_project_id.unwrap_or_default()),
        project.created_at.to_string(),
    ]
}
