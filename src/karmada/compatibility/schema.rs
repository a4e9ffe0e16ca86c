//! The fields of the table as parts of a definition's schema.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};

use super::Field;
use super::fields::{CLUSTER_AFFINITY, Shape, Support};

/// Adds a field to a schema, with the rule that refuses it.
pub(super) fn add(root: &mut JSONSchemaProps, field: &Field) {
    if field.shape != Shape::Typed {
        let mut schema = schema_of(root, field.shape);
        schema.description = Some(field.description.to_owned());
        let (parent, name) = field.path.rsplit_once('.').unwrap_or(("", &field.path));
        if let Some(parent) = node(root, parent) {
            parent.properties.get_or_insert_default().insert(name.to_owned(), schema);
        }
    }
    if let Support::Refused(neutral) = field.support {
        add_rule(root, &field.path, &neutral.rule(), &field.refusal(), Some("FieldValueForbidden"));
    }
}

/// Adds a rule to the part of a schema at a path.
pub(super) fn add_rule(root: &mut JSONSchemaProps, path: &str, rule: &str, message: &str, reason: Option<&str>) {
    let rule = ValidationRule {
        rule: rule.to_owned(),
        message: Some(message.to_owned()),
        reason: reason.map(str::to_owned),
        ..ValidationRule::default()
    };
    if let Some(node) = node(root, path) {
        node.x_kubernetes_validations.get_or_insert_default().push(rule);
    }
}

/// The part of a schema at a path.
fn node<'a>(root: &'a mut JSONSchemaProps, path: &str) -> Option<&'a mut JSONSchemaProps> {
    path.split('.').filter(|segment| !segment.is_empty()).try_fold(root, |node, segment| {
        let property = node.properties.as_mut()?.get_mut(segment.trim_end_matches("[]"))?;
        if !segment.ends_with("[]") {
            return Some(property);
        }
        match &mut property.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&mut **items),
            _ => None,
        }
    })
}

fn schema_of(root: &mut JSONSchemaProps, shape: Shape) -> JSONSchemaProps {
    let plain = |type_: &str| JSONSchemaProps { type_: Some(type_.to_owned()), ..JSONSchemaProps::default() };
    let format = |type_: &str, format: &str| JSONSchemaProps { format: Some(format.to_owned()), ..plain(type_) };
    let quantity = || JSONSchemaProps {
        x_kubernetes_int_or_string: Some(true),
        any_of: Some(vec![plain("integer"), plain("string")]),
        ..JSONSchemaProps::default()
    };
    let list = |items: JSONSchemaProps| JSONSchemaProps {
        items: Some(JSONSchemaPropsOrArray::Schema(Box::new(items))),
        ..plain("array")
    };
    let map = |values: JSONSchemaProps| JSONSchemaProps {
        additional_properties: Some(JSONSchemaPropsOrBool::Schema(Box::new(values))),
        ..plain("object")
    };
    match shape {
        Shape::Typed => JSONSchemaProps::default(),
        Shape::Boolean => plain("boolean"),
        Shape::Integer => format("integer", "int32"),
        Shape::Long => format("integer", "int64"),
        Shape::Text => plain("string"),
        Shape::Time => format("string", "date-time"),
        Shape::Quantity => quantity(),
        Shape::Texts => list(plain("string")),
        Shape::TextMap => map(plain("string")),
        Shape::Quantities => map(quantity()),
        Shape::Object => plain("object"),
        Shape::Objects => list(plain("object")),
        Shape::Affinities => {
            list(node(root, CLUSTER_AFFINITY).map_or_else(|| plain("object"), |affinity| affinity.clone()))
        }
    }
}

/// The paths of all fields of a definition's spec and status, in order.
#[must_use]
pub fn paths(definition: &CustomResourceDefinition) -> Vec<String> {
    let mut found = Vec::new();
    for version in &definition.spec.versions {
        let root = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        for (name, part) in root.and_then(|root| root.properties.as_ref()).into_iter().flatten() {
            if name == "spec" || name == "status" {
                walk(part, name, &mut found);
            }
        }
    }
    found
}

fn walk(schema: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(items, &format!("{path}[]"), found);
    }
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        found.push(path.clone());
        walk(property, &path, found);
    }
}
