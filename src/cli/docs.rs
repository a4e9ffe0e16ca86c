//! `airdock docs`: the API reference as Markdown, made from the custom resource definitions.
//!
//! What it prints is checked in as `docs/api.md`, and a test fails when the two differ.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};

use super::crds;
use super::output::{self, OutputError};

const PREAMBLE: &str = "# API reference

<!-- Made by `make docs` from the Rust types in src/api. Do not edit. -->

Group `airdock.dev`, version `v1alpha1`. All kinds are namespaced and in the category `airdock`, so
`kubectl get airdock -A` lists them all. Every field is also explained by `kubectl explain`.

In the tables, `[]` stands for each element of a list and `{}` for each value of a map. A field in **bold** is
required where its parent is given.
";

/// Prints the reference.
pub fn run() -> Result<(), OutputError> {
    output::print(&api_reference())
}

/// The reference of every kind that Airdock defines.
#[must_use]
pub fn api_reference() -> String {
    let mut out = String::from(PREAMBLE);
    let definitions = crds::definitions();
    out.push('\n');
    for crd in &definitions {
        let kind = &crd.spec.names.kind;
        // Formatting into a String cannot fail.
        let _ = writeln!(out, "- [{kind}](#{})", kind.to_lowercase());
    }
    for crd in &definitions {
        for version in &crd.spec.versions {
            kind(&mut out, crd, version);
        }
    }
    out
}

fn kind(out: &mut String, crd: &CustomResourceDefinition, version: &CustomResourceDefinitionVersion) {
    let names = &crd.spec.names;
    let _ = writeln!(out, "\n## {}", names.kind);
    let Some(root) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else { return };
    let spec = property(root, "spec");
    if let Some(text) = spec.and_then(|s| s.description.as_deref()) {
        let _ = writeln!(out, "\n{}", text.trim());
    }
    let _ = writeln!(out, "\n`{}.{}`", names.plural, crd.spec.group);
    if let Some(short) = names.short_names.as_ref().filter(|s| !s.is_empty()) {
        let _ = writeln!(out, "(short: `{}`)", short.join("`, `"));
    }
    columns(out, version);

    let mut rules = Vec::new();
    collect_rules(root, &mut rules);
    if !rules.is_empty() {
        let _ = writeln!(out, "\n### {}: rules\n\nThe API server refuses what breaks one of these.\n", names.kind);
        for rule in rules {
            let _ = writeln!(out, "- {}", text(&rule));
        }
    }
    for part in ["spec", "status"] {
        let Some(schema) = property(root, part) else { continue };
        let _ = writeln!(
            out,
            "\n### {}: {part}\n\n| field | type | default | description |\n|---|---|---|---|",
            names.kind
        );
        fields(out, schema, part);
    }
}

fn columns(out: &mut String, version: &CustomResourceDefinitionVersion) {
    let Some(columns) = version.additional_printer_columns.as_ref().filter(|c| !c.is_empty()) else { return };
    let shown = |wide: bool| -> Vec<&str> {
        columns.iter().filter(|c| (c.priority.unwrap_or(0) > 0) == wide).map(|c| c.name.as_str()).collect()
    };
    let _ = write!(out, "\nColumns: {}", shown(false).join(", "));
    let wide = shown(true);
    if !wide.is_empty() {
        let _ = write!(out, "; with `-o wide` also {}", wide.join(", "));
    }
    out.push_str(".\n");
}

/// The messages of all validation rules, outer ones first, each once.
fn collect_rules(schema: &JSONSchemaProps, found: &mut Vec<String>) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let message = rule.message.clone().unwrap_or_else(|| rule.rule.clone());
        if !found.contains(&message) {
            found.push(message);
        }
    }
    for child in schema.properties.iter().flatten().map(|(_, child)| child) {
        collect_rules(child, found);
    }
    if let Some(child) = element(schema) {
        collect_rules(child, found);
    }
    if let Some(child) = map_value(schema) {
        collect_rules(child, found);
    }
}

fn fields(out: &mut String, schema: &JSONSchemaProps, path: &str) {
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let here = format!("{path}.{name}");
        let label = if required.contains(name) { format!("**`{here}`**") } else { format!("`{here}`") };
        let _ = writeln!(
            out,
            "| {label} | {} | {} | {} |",
            type_of(field),
            default_of(field),
            text(&description(field, schema_bounds(field)))
        );
        children(out, field, &here);
    }
}

fn children(out: &mut String, field: &JSONSchemaProps, path: &str) {
    if let Some(item) = element(field) {
        children(out, item, &format!("{path}[]"));
    } else if let Some(value) = map_value(field) {
        children(out, value, &format!("{path}{{}}"));
    } else {
        fields(out, field, path);
    }
}

fn description(field: &JSONSchemaProps, bounds: Vec<String>) -> String {
    let mut said = field.description.as_deref().unwrap_or_default().trim().to_owned();
    if !bounds.is_empty() {
        if !said.is_empty() {
            said.push(' ');
        }
        let _ = write!(said, "({})", bounds.join("; "));
    }
    said
}

/// What the schema itself demands of a value, in words.
fn schema_bounds(field: &JSONSchemaProps) -> Vec<String> {
    let mut bounds = Vec::new();
    if let Some(values) = field.enum_.as_ref() {
        // A nullable enum lists null among its values.
        let values: Vec<_> = values.iter().filter(|v| !v.0.is_null()).map(|v| format!("`{}`", plain(&v.0))).collect();
        bounds.push(format!("one of {}", values.join(", ")));
    }
    match (field.minimum, field.maximum) {
        (Some(min), Some(max)) => bounds.push(format!("{min} to {max}")),
        (Some(min), None) => bounds.push(format!("at least {min}")),
        (None, Some(max)) => bounds.push(format!("at most {max}")),
        (None, None) => {}
    }
    let length = |min: Option<i64>, max: Option<i64>, unit: &str| match (min.filter(|m| *m > 0), max) {
        (Some(min), Some(max)) => Some(format!("{min} to {max} {unit}")),
        (Some(min), None) => Some(format!("at least {min} {unit}")),
        (None, Some(max)) => Some(format!("at most {max} {unit}")),
        (None, None) => None,
    };
    bounds.extend(length(field.min_length, field.max_length, "characters"));
    bounds.extend(length(field.min_items, field.max_items, "entries"));
    if let Some(pattern) = &field.pattern {
        bounds.push(format!("pattern `{pattern}`"));
    }
    bounds
}

fn type_of(field: &JSONSchemaProps) -> String {
    if field.x_kubernetes_int_or_string == Some(true) {
        return "integer or string".to_owned();
    }
    if let Some(item) = element(field) {
        return format!("list of {}", type_of(item));
    }
    if let Some(value) = map_value(field) {
        return format!("map of {}", type_of(value));
    }
    match field.type_.as_deref() {
        Some("object") if field.x_kubernetes_embedded_resource == Some(true) => "Kubernetes object".to_owned(),
        Some("string") if field.format.as_deref() == Some("date-time") => "time".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

fn default_of(field: &JSONSchemaProps) -> String {
    match field.default.as_ref().map(|d| &d.0) {
        None => String::new(),
        // The defaults within are listed with the fields themselves.
        Some(value) if value.is_object() || value.is_array() => String::new(),
        Some(value) => format!("`{}`", plain(value)),
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn property<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    schema.properties.as_ref()?.get(name)
}

fn element(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn map_value(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.additional_properties.as_ref()? {
        JSONSchemaPropsOrBool::Schema(value) => Some(value),
        JSONSchemaPropsOrBool::Bool(_) => None,
    }
}

/// One line that can stand in a table's cell or a list's item.
fn text(raw: &str) -> String {
    let mut line = String::with_capacity(raw.len());
    for word in raw.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_spec_and_status() {
        let reference = api_reference();
        for crd in crds::definitions() {
            let kind = crd.spec.names.kind;
            for part in ["spec", "status"] {
                assert!(reference.contains(&format!("\n### {kind}: {part}\n")), "{kind} lacks {part}");
            }
        }
    }

    #[test]
    fn fields_show_type_default_bounds_and_requirement() {
        let reference = api_reference();
        let row = |field: &str| {
            reference.lines().find(|l| l.contains(&format!("`{field}`"))).unwrap_or_else(|| panic!("no {field}"))
        };
        assert!(row("spec.networking.serviceCidr").contains("| string | `10.96.0.0/12` |"));
        assert!(
            row("spec.profile").contains("one of `Full`, `Compact`")
                || row("spec.profile").contains("one of `Compact`, `Full`")
        );
        assert!(row("spec.components[].name").starts_with("| **`spec.components[].name`**"));
        assert!(row("spec.components{}.replicas").contains("1 to 9"));
        assert!(row("spec.components[].manifests").contains("| list of Kubernetes object |"));
    }

    #[test]
    fn no_field_goes_unexplained() {
        let reference = api_reference();
        let silent: Vec<_> = reference.lines().filter(|l| l.starts_with("| ") && l.ends_with("|  |")).collect();
        assert!(silent.is_empty(), "fields without a description: {silent:#?}");
    }

    #[test]
    fn table_cells_stay_on_one_line() {
        assert_eq!(text("a|b\n  c <d>"), "a\\|b c &lt;d>");
    }
}
