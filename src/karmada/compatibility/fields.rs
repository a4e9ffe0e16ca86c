//! The table of fields.

use std::sync::LazyLock;

use super::Field;

/// Kinds that have the same fields, by one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PropagationPolicy and ClusterPropagationPolicy.
    PropagationPolicy,
    /// OverridePolicy and ClusterOverridePolicy.
    OverridePolicy,
    /// ResourceBinding and ClusterResourceBinding.
    ResourceBinding,
    /// Cluster.
    Cluster,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// The engine carries it out, with this to say about it.
    CarriedOut(&'static str),
    /// It is accepted, and has no effect, for this reason.
    Harmless(&'static str),
    /// It is refused, unless its value asks for nothing.
    Refused(Neutral),
    /// It only holds other fields.
    ByFields,
}

/// Values of a refused field that ask for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neutral {
    /// None.
    Nothing,
    /// An empty list, map or text.
    Empty,
    /// `false`.
    False,
    /// This text, or an empty one.
    Value(&'static str),
}

/// The schema of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The one that the Rust type gives it.
    Typed,
    /// A truth value.
    Boolean,
    /// An integer of 32 bits.
    Integer,
    /// An integer of 64 bits.
    Long,
    /// A text.
    Text,
    /// A point in time.
    Time,
    /// A quantity.
    Quantity,
    /// A list of texts.
    Texts,
    /// A map of texts.
    TextMap,
    /// A map of quantities.
    Quantities,
    /// An object; its fields follow.
    Object,
    /// A list of objects; their fields follow.
    Objects,
    /// A list of cluster affinities; further fields follow.
    Affinities,
}

/// Where the schemas that have cluster affinities have one to copy.
pub(super) const CLUSTER_AFFINITY: &str = "spec.placement.clusterAffinity";

/// A rule about several fields of a spec.
pub(super) struct Rule {
    pub rule: &'static str,
    pub message: &'static str,
}

/// The rules about several fields of a kind's spec.
pub(super) fn rules(kind: Kind) -> &'static [Rule] {
    match kind {
        Kind::OverridePolicy => &[
            Rule {
                rule: "!has(self.overrideRules) || size(self.overrideRules) == 0 || !has(self.targetCluster)",
                message: "spec.targetCluster: not together with overrideRules; give each rule a targetCluster",
            },
            Rule {
                rule: "!has(self.overrideRules) || size(self.overrideRules) == 0 || !has(self.overriders) || !(\
                       has(self.overriders.imageOverrider) || has(self.overriders.commandOverrider) || \
                       has(self.overriders.argsOverrider) || has(self.overriders.labelsOverrider) || \
                       has(self.overriders.annotationsOverrider) || has(self.overriders.fieldOverrider) || \
                       has(self.overriders.plaintext))",
                message: "spec.overriders: not together with overrideRules; make a rule of it",
            },
        ],
        _ => &[],
    }
}

/// A row of the table: path, schema, what becomes of it, what it means.
type Row = (&'static str, Shape, Support, &'static str);

const PART: Support = Support::ByFields;
const REFUSED: Support = Support::Refused(Neutral::Nothing);
const UNLESS_EMPTY: Support = Support::Refused(Neutral::Empty);
const UNLESS_FALSE: Support = Support::Refused(Neutral::False);
const SCHEDULER: Support = Support::Refused(Neutral::Value("default-scheduler"));

const PLACEMENT: &[Row] = &[
    ("clusterAffinities", Shape::Affinities, UNLESS_EMPTY, "Groups of clusters; the first that fits is taken."),
    ("clusterAffinities[].affinityName", Shape::Text, PART, "Name of the group."),
    ("clusterAffinities[].overflowAffinities", Shape::Affinities, PART, "Clusters for replicas that do not fit."),
    ("clusterAffinities[].overflowAffinities[].affinityName", Shape::Text, PART, "Name of the group."),
    (
        "clusterTolerations",
        Shape::Typed,
        Support::CarriedOut("nothing is evicted: NoExecute keeps new objects away, like NoSchedule"),
        "",
    ),
    (
        "clusterTolerations[].tolerationSeconds",
        Shape::Long,
        Support::Harmless("nothing is evicted, so a tolerated taint is tolerated for ever"),
        "How long the taint is tolerated.",
    ),
    ("spreadConstraints", Shape::Objects, UNLESS_EMPTY, "How many clusters, regions, zones or providers are taken."),
    ("spreadConstraints[].spreadByField", Shape::Text, PART, "cluster, region, zone or provider."),
    ("spreadConstraints[].spreadByLabel", Shape::Text, PART, "Key of a cluster's label."),
    ("spreadConstraints[].maxGroups", Shape::Long, PART, "At most so many groups."),
    ("spreadConstraints[].minGroups", Shape::Long, PART, "At least so many groups."),
    (
        "replicaScheduling.replicaDivisionPreference",
        Shape::Typed,
        Support::CarriedOut("`Weighted`; `Aggregated` is refused as an unsupported value"),
        "",
    ),
    (
        "replicaScheduling.weightPreference.dynamicWeight",
        Shape::Text,
        UNLESS_EMPTY,
        "Weights from what clusters have free.",
    ),
    ("workloadAffinity", Shape::Object, PART, "Workloads that belong together or apart."),
    ("workloadAffinity.affinity", Shape::Object, REFUSED, "Workloads that go to the same clusters."),
    ("workloadAffinity.affinity.groupByLabelKey", Shape::Text, PART, "Key of the label that groups them."),
    ("workloadAffinity.antiAffinity", Shape::Object, REFUSED, "Workloads that go to different clusters."),
    ("workloadAffinity.antiAffinity.groupByLabelKey", Shape::Text, PART, "Key of the label that groups them."),
];

const STATE_PRESERVATION: &[Row] = &[
    ("statePreservation", Shape::Object, PART, "State that is handed on."),
    ("statePreservation.rules", Shape::Objects, PART, "What is handed on."),
    ("statePreservation.rules[].aliasLabelName", Shape::Text, PART, "Key of the label that carries it."),
    ("statePreservation.rules[].jsonPath", Shape::Text, PART, "Where it is in the status."),
];

const FAILOVER: &[Row] = &[
    ("failover", Shape::Object, PART, "When an object moves to another cluster."),
    ("failover.application", Shape::Object, REFUSED, "Failover of unhealthy applications."),
    ("failover.application.decisionConditions", Shape::Object, PART, "When an application counts as failed."),
    (
        "failover.application.decisionConditions.tolerationSeconds",
        Shape::Integer,
        PART,
        "How long it may be unhealthy.",
    ),
    ("failover.application.purgeMode", Shape::Text, PART, "How the old application is removed."),
    ("failover.application.gracePeriodSeconds", Shape::Integer, PART, "How long the old one may stay."),
    ("failover.cluster", Shape::Object, REFUSED, "Failover of clusters."),
    ("failover.cluster.purgeMode", Shape::Text, PART, "How the old application is removed."),
];

const SUSPENSION: &[Row] = &[
    ("suspension", Shape::Object, PART, "What is held back."),
    ("suspension.dispatching", Shape::Boolean, UNLESS_FALSE, "Whether nothing is written to members."),
    ("suspension.dispatchingOnClusters", Shape::Object, PART, "Members that nothing is written to."),
    ("suspension.dispatchingOnClusters.clusterNames", Shape::Texts, UNLESS_EMPTY, "Names of the members."),
];

const PROPAGATION: &[Row] = &[
    (
        "resourceSelectors[].namespace",
        Shape::Typed,
        Support::CarriedOut("a PropagationPolicy with another namespace than its own is refused at admission"),
        "",
    ),
    (
        "association",
        Shape::Boolean,
        Support::Harmless("deprecated; without effect in Karmada too"),
        "Deprecated: use propagateDeps.",
    ),
    ("propagateDeps", Shape::Boolean, UNLESS_FALSE, "Whether what the objects refer to goes along."),
    (
        "preemption",
        Shape::Text,
        Support::Refused(Neutral::Value("Never")),
        "Whether objects are taken from other policies.",
    ),
    ("dependentOverrides", Shape::Texts, UNLESS_EMPTY, "Override policies that must be there first."),
    ("schedulerName", Shape::Text, SCHEDULER, "The scheduler that places the objects."),
    ("activationPreference", Shape::Text, UNLESS_EMPTY, "When a change of the policy takes effect."),
    ("schedulePriority", Shape::Object, REFUSED, "Which objects are scheduled first."),
    ("schedulePriority.priorityClassSource", Shape::Text, PART, "Where the priority class is defined."),
    ("schedulePriority.priorityClassName", Shape::Text, PART, "Name of the priority class."),
];

const ESTIMATE: Support = Support::Harmless("Compact divides by fixed weights and estimates nothing");

const NODE_CLAIM: &[Row] = &[
    ("nodeClaim", Shape::Object, PART, "Nodes that can run a replica."),
    ("nodeClaim.hardNodeAffinity", Shape::Object, PART, "Required node affinity."),
    ("nodeClaim.hardNodeAffinity.nodeSelectorTerms", Shape::Objects, PART, "Terms; one must hold."),
    ("nodeClaim.hardNodeAffinity.nodeSelectorTerms[].matchExpressions", Shape::Objects, PART, "By labels."),
    ("nodeClaim.hardNodeAffinity.nodeSelectorTerms[].matchExpressions[].key", Shape::Text, PART, "Key."),
    ("nodeClaim.hardNodeAffinity.nodeSelectorTerms[].matchExpressions[].operator", Shape::Text, PART, "Comparison."),
    ("nodeClaim.hardNodeAffinity.nodeSelectorTerms[].matchExpressions[].values", Shape::Texts, PART, "Values."),
    ("nodeClaim.hardNodeAffinity.nodeSelectorTerms[].matchFields", Shape::Objects, PART, "By fields."),
    ("nodeClaim.hardNodeAffinity.nodeSelectorTerms[].matchFields[].key", Shape::Text, PART, "Key."),
    ("nodeClaim.hardNodeAffinity.nodeSelectorTerms[].matchFields[].operator", Shape::Text, PART, "Comparison."),
    ("nodeClaim.hardNodeAffinity.nodeSelectorTerms[].matchFields[].values", Shape::Texts, PART, "Values."),
    ("nodeClaim.nodeSelector", Shape::TextMap, PART, "Labels of nodes."),
    ("nodeClaim.tolerations", Shape::Objects, PART, "Taints that are tolerated."),
    ("nodeClaim.tolerations[].key", Shape::Text, PART, "Key."),
    ("nodeClaim.tolerations[].operator", Shape::Text, PART, "Comparison."),
    ("nodeClaim.tolerations[].value", Shape::Text, PART, "Value."),
    ("nodeClaim.tolerations[].effect", Shape::Text, PART, "Effect."),
    ("nodeClaim.tolerations[].tolerationSeconds", Shape::Long, PART, "How long the taint is tolerated."),
    ("resourceRequest", Shape::Quantities, PART, "What a replica requests."),
    ("priorityClassName", Shape::Text, PART, "Priority class of a replica."),
];

const BINDING: &[Row] = &[
    ("propagateDeps", Shape::Boolean, UNLESS_FALSE, "Whether what the object refers to goes along."),
    ("schedulerName", Shape::Text, SCHEDULER, "The scheduler that places the object."),
    ("gracefulEvictionTasks", Shape::Objects, UNLESS_EMPTY, "Clusters that the object leaves."),
    ("gracefulEvictionTasks[].fromCluster", Shape::Text, PART, "The cluster."),
    ("gracefulEvictionTasks[].purgeMode", Shape::Text, PART, "How the object is removed."),
    ("gracefulEvictionTasks[].replicas", Shape::Integer, PART, "Replicas to evict."),
    ("gracefulEvictionTasks[].reason", Shape::Text, PART, "Why, in one word."),
    ("gracefulEvictionTasks[].message", Shape::Text, PART, "Why."),
    ("gracefulEvictionTasks[].producer", Shape::Text, PART, "Who asked for it."),
    ("gracefulEvictionTasks[].gracePeriodSeconds", Shape::Integer, PART, "How long it may take."),
    (
        "gracefulEvictionTasks[].suppressDeletion",
        Shape::Boolean,
        PART,
        "Whether the object stays until told otherwise.",
    ),
    ("gracefulEvictionTasks[].preservedLabelState", Shape::TextMap, PART, "State that is handed on."),
    ("gracefulEvictionTasks[].creationTimestamp", Shape::Time, PART, "When it was asked for."),
    ("gracefulEvictionTasks[].clustersBeforeFailover", Shape::Texts, PART, "Clusters before it was asked for."),
    ("requiredBy", Shape::Objects, UNLESS_EMPTY, "Bindings that need this object."),
    ("requiredBy[].namespace", Shape::Text, PART, "Namespace of the binding."),
    ("requiredBy[].name", Shape::Text, PART, "Name of the binding."),
    ("requiredBy[].clusters", Shape::Objects, PART, "Its clusters."),
    ("requiredBy[].clusters[].name", Shape::Text, PART, "Name of the cluster."),
    ("requiredBy[].clusters[].replicas", Shape::Integer, PART, "Replicas there."),
    ("rescheduleTriggeredAt", Shape::Time, REFUSED, "When placing anew was asked for."),
    ("suspension.scheduling", Shape::Boolean, UNLESS_FALSE, "Whether the object is not placed."),
    ("schedulePriority", Shape::Object, REFUSED, "Which bindings are scheduled first."),
    ("schedulePriority.priority", Shape::Integer, PART, "The priority."),
    ("workloadAffinityGroups", Shape::Object, REFUSED, "Groups of workload affinity."),
    ("workloadAffinityGroups.affinityGroup", Shape::Text, PART, "Group that stays together."),
    ("workloadAffinityGroups.antiAffinityGroup", Shape::Text, PART, "Group that stays apart."),
    ("replicaRequirements", Shape::Object, ESTIMATE, "What a replica needs."),
    ("replicaRequirements.namespace", Shape::Text, PART, "Namespace of the object."),
    ("components", Shape::Objects, ESTIMATE, "Parts of the object that have replicas."),
    ("components[].name", Shape::Text, PART, "Name."),
    ("components[].replicas", Shape::Integer, PART, "Replicas."),
    ("components[].replicaRequirements", Shape::Object, PART, "What a replica needs."),
];

const CLUSTER: &[Row] = &[
    ("spec.id", Shape::Typed, Support::Harmless("recorded, and shown"), ""),
    (
        "spec.syncMode",
        Shape::Typed,
        Support::CarriedOut("`Push`; a Cluster with `Pull` is left to an agent, which Compact does not have"),
        "",
    ),
    ("spec.impersonatorSecretRef", Shape::Typed, Support::Harmless("Compact has no proxy into members"), ""),
    (
        "spec.insecureSkipTLSVerification",
        Shape::Boolean,
        UNLESS_FALSE,
        "Whether the member's certificate is not checked.",
    ),
    ("spec.proxyURL", Shape::Text, UNLESS_EMPTY, "Proxy on the way to the member."),
    ("spec.proxyHeader", Shape::TextMap, UNLESS_EMPTY, "Headers for the proxy."),
    ("spec.zone", Shape::Text, UNLESS_EMPTY, "Deprecated: use zones."),
    (
        "spec.taints[].effect",
        Shape::Typed,
        Support::CarriedOut(
            "`NoSchedule`; `NoExecute` is treated like it; `PreferNoSchedule` has no effect, as in Karmada",
        ),
        "",
    ),
    ("spec.taints[].timeAdded", Shape::Time, Support::Harmless("nothing is evicted"), "When the taint was added."),
    ("spec.resourceModels", Shape::Objects, ESTIMATE, "Grades of nodes."),
    ("spec.resourceModels[].grade", Shape::Long, PART, "Grade."),
    ("spec.resourceModels[].ranges", Shape::Objects, PART, "What nodes of the grade have."),
    ("spec.resourceModels[].ranges[].name", Shape::Text, PART, "Name of the resource."),
    ("spec.resourceModels[].ranges[].min", Shape::Quantity, PART, "At least."),
    ("spec.resourceModels[].ranges[].max", Shape::Quantity, PART, "Less than."),
    ("status.remedyActions", Shape::Texts, Support::Harmless("Compact has no remedies"), "Remedies that are active."),
    ("status.resourceSummary.allocatableModelings", Shape::Objects, ESTIMATE, "Nodes by grade."),
    ("status.resourceSummary.allocatableModelings[].grade", Shape::Long, PART, "Grade."),
    ("status.resourceSummary.allocatableModelings[].count", Shape::Long, PART, "Nodes."),
];

const BINDING_STATUS: &[Row] = &[(
    "status.schedulerObservingAffinityName",
    Shape::Text,
    Support::Harmless("there are no groups of clusters to choose from"),
    "The group of clusters that was chosen.",
)];

const OVERRIDE: &[Row] = &[
    ("spec.targetCluster", Shape::Typed, Support::CarriedOut("refused beside overrideRules"), ""),
    ("spec.overriders", Shape::Typed, Support::CarriedOut("refused beside overrideRules, unless it is empty"), ""),
];

fn rows(prefix: &str, rows: &[Row]) -> impl Iterator<Item = Field> {
    rows.iter().map(move |(path, shape, support, description)| Field {
        path: format!("{prefix}{path}"),
        shape: *shape,
        support: *support,
        description,
    })
}

static PROPAGATION_FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let mut all: Vec<Field> = rows("spec.", PROPAGATION).collect();
    all.extend(rows("spec.placement.", PLACEMENT));
    all.extend(rows("spec.", FAILOVER));
    all.extend(rows("spec.failover.application.", STATE_PRESERVATION));
    all.extend(rows("spec.failover.cluster.", STATE_PRESERVATION));
    all.extend(rows("spec.", SUSPENSION));
    all
});

static BINDING_FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let mut all: Vec<Field> = rows("spec.placement.", PLACEMENT).collect();
    all.extend(rows("spec.", FAILOVER));
    all.extend(rows("spec.failover.application.", STATE_PRESERVATION));
    all.extend(rows("spec.failover.cluster.", STATE_PRESERVATION));
    all.extend(rows("spec.", SUSPENSION));
    all.extend(rows("spec.", BINDING));
    all.extend(rows("spec.replicaRequirements.", NODE_CLAIM));
    all.extend(rows("spec.components[].replicaRequirements.", NODE_CLAIM));
    all.extend(rows("", BINDING_STATUS));
    all
});

static CLUSTER_FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| rows("", CLUSTER).collect());

static OVERRIDE_FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| rows("", OVERRIDE).collect());

/// The fields of a kind that the engine does not simply carry out. A field comes after the one that holds it.
pub(super) fn of(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::PropagationPolicy => &PROPAGATION_FIELDS,
        Kind::OverridePolicy => &OVERRIDE_FIELDS,
        Kind::ResourceBinding => &BINDING_FIELDS,
        Kind::Cluster => &CLUSTER_FIELDS,
    }
}
