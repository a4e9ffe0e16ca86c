//! The page as tables, for people.

use super::page::{AppRow, InstanceRow, MemberRow, Page, PermissionRow, Summary};
use crate::cli::output::{or_dash, table};

pub fn render_page(page: &Page, wide: bool) -> String {
    let sections = [
        ("INSTANCES", page.instances.is_empty(), instances(&page.instances, wide)),
        ("MEMBERS", page.members.is_empty(), members(&page.members, wide)),
        ("APPLICATIONS", page.apps.is_empty(), apps(&page.apps, wide)),
        ("PERMISSIONS", page.permissions.is_empty(), permissions(&page.permissions, wide)),
    ];
    let text = |(title, is_empty, text): (&str, bool, String)| {
        let text = if is_empty { "none\n".to_owned() } else { text };
        format!("{title}\n{text}")
    };
    sections.map(text).join("\n")
}

/// A message is worth a line only when something is not as it should be.
fn remark(summary: &Summary, wide: bool) -> String {
    let message = if summary.ready == "True" && !wide { None } else { Some(summary.message.as_str()) };
    message.into_iter().chain(summary.unmatched.as_deref()).collect::<Vec<_>>().join("; ")
}

fn instances(rows: &[InstanceRow], wide: bool) -> String {
    let rows = rows.iter().map(|row| {
        let version = if wide {
            [row.version.clone(), row.kubernetes.clone()].map(|v| or_dash(v.as_deref())).join(" on Kubernetes ")
        } else {
            or_dash(row.version.as_deref())
        };
        [
            row.summary.namespace.clone(),
            row.summary.name.clone(),
            row.profile.clone(),
            row.summary.ready.clone(),
            or_dash(row.phase.as_deref()),
            version,
            or_dash(row.clusters.as_deref()),
            remark(&row.summary, wide),
        ]
    });
    table(["NAMESPACE", "NAME", "PROFILE", "READY", "PHASE", "VERSION", "CLUSTERS", "MESSAGE"], rows)
}

fn members(rows: &[MemberRow], wide: bool) -> String {
    let rows = rows.iter().map(|row| {
        [
            row.summary.namespace.clone(),
            row.cluster.clone(),
            row.instance.clone(),
            or_dash(row.region.as_deref()),
            or_dash(row.provider.as_deref()),
            row.summary.ready.clone(),
            or_dash(row.version.as_deref()),
            or_dash(row.nodes.as_deref()),
            remark(&row.summary, wide),
        ]
    });
    table(["NAMESPACE", "CLUSTER", "INSTANCE", "REGION", "PROVIDER", "READY", "VERSION", "NODES", "MESSAGE"], rows)
}

fn apps(rows: &[AppRow], wide: bool) -> String {
    let rows = rows.iter().flat_map(|row| {
        let head = |cells: [String; 4], note: String| {
            let [cluster, health, replicas, differences] = cells;
            let Summary { namespace, name, ready, .. } = &row.summary;
            [namespace, name, &row.instance, ready]
                .map(Clone::clone)
                .into_iter()
                .chain([cluster, health, replicas, differences, note])
                .collect::<Vec<_>>()
        };
        let none = || "-".to_owned();
        let mut lines: Vec<Vec<String>> = row
            .clusters
            .iter()
            .map(|place| {
                let differences = or_dash(Some(&place.differences.join(", ")));
                let cells = [place.cluster.clone(), place.health.clone(), place.replicas.clone(), differences];
                head(cells, place.message.clone().unwrap_or_default())
            })
            .collect();
        if lines.is_empty() {
            lines.push(head([none(), none(), none(), none()], remark(&row.summary, true)));
        } else if wide || (row.summary.ready != "True" && row.clusters.iter().all(|place| place.message.is_none())) {
            lines.push(head([String::new(), String::new(), String::new(), String::new()], row.summary.message.clone()));
        }
        if !row.clusters.is_empty()
            && let Some(unmatched) = &row.summary.unmatched
        {
            lines.push(head([String::new(), String::new(), String::new(), String::new()], unmatched.clone()));
        }
        // An app is named once, and below it one line for each cluster.
        for line in lines.iter_mut().skip(1) {
            line.iter_mut().take(4).for_each(String::clear);
        }
        lines.into_iter().filter_map(|line| <[String; 9]>::try_from(line).ok())
    });
    table(["NAMESPACE", "NAME", "INSTANCE", "READY", "CLUSTER", "HEALTH", "REPLICAS", "DIFFERENCES", "MESSAGE"], rows)
}

fn permissions(rows: &[PermissionRow], wide: bool) -> String {
    let rows = rows.iter().map(|row| {
        let until = row.expires.as_deref().map(|expires| format!(" until {expires}")).unwrap_or_default();
        [
            row.summary.namespace.clone(),
            row.summary.name.clone(),
            format!("{}{until}", row.role),
            row.subjects.join(", "),
            row.namespaces.join(", "),
            row.clusters.clone(),
            row.summary.ready.clone(),
            or_dash(row.synced.as_deref()),
            remark(&row.summary, wide),
        ]
    });
    table(["NAMESPACE", "NAME", "ROLE", "SUBJECTS", "NAMESPACES", "CLUSTERS", "READY", "SYNCED", "MESSAGE"], rows)
}
