//! What is wrong with a balancer, and what mends it, for `doctor`.

use lb_proto::v1;
use serde::Serialize;

use super::Human;

/// What `doctor` prints.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnosis(pub Vec<Examination>);

/// The result of a check.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// The check's name.
    pub check: String,
    /// What it examines.
    pub examines: String,
    /// What it found, the worst first.
    pub findings: Vec<Finding>,
}

/// What a check found.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// problem, warning or note.
    pub severity: String,
    /// The interface, VIP or real that it is about; nothing if it is about the host.
    pub object: Option<String>,
    /// What was seen, and what it means.
    pub seen: String,
    /// The command that mends it, or what to do.
    pub mend: String,
}

impl From<&v1::Diagnosis> for Diagnosis {
    fn from(diagnosis: &v1::Diagnosis) -> Self {
        let finding = |finding: &v1::Finding| Finding {
            severity: finding.severity.clone(),
            object: Some(finding.object.clone()).filter(|object| !object.is_empty()),
            seen: finding.seen.clone(),
            mend: finding.mend.clone(),
        };
        let examination = |check: &v1::Examination| Examination {
            check: check.name.clone(),
            examines: check.examines.clone(),
            findings: check.findings.iter().map(finding).collect(),
        };
        Diagnosis(diagnosis.checks.iter().map(examination).collect())
    }
}

impl Diagnosis {
    /// Findings that are problems.
    #[must_use]
    pub fn problems(&self) -> usize {
        let findings = self.0.iter().flat_map(|check| &check.findings);
        findings
            .filter(|finding| finding.severity == "problem")
            .count()
    }
}

impl Human for Diagnosis {
    fn human(&self) -> String {
        let mut text = String::new();
        for check in &self.0 {
            if check.findings.is_empty() {
                text += &format!("ok       {}: {}\n", check.check, check.examines);
            }
            for finding in &check.findings {
                let object = finding
                    .object
                    .as_ref()
                    .map_or_else(String::new, |object| format!("{object}: "));
                text += &format!(
                    "{:<8} {}: {object}{}\n         mend: {}\n",
                    finding.severity, check.check, finding.seen, finding.mend
                );
            }
        }
        text
    }
}
