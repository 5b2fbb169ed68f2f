//! What the doctor finds on the balancer.

use lb_proto::v1;
use tonic::Status;

use super::{Api, error::unread};
use crate::doctor::{self, Examined, Facts};

impl Api {
    pub(super) async fn examine(&self) -> Result<v1::Diagnosis, Status> {
        let mut status = self.control.status().await.map_err(unread)?;
        status.warnings.extend(self.supervisor.warnings().await);
        let stats = self.control.stats(None).await.map_err(unread)?;
        let snapshots = self.supervisor.snapshots().await;
        let facts = Facts::read(&status, &stats, &snapshots);
        let checks = doctor::examine(doctor::BALANCER, &facts);
        Ok(v1::Diagnosis {
            checks: checks.into_iter().map(message).collect(),
        })
    }
}

fn message(examined: Examined) -> v1::Examination {
    let findings = examined.findings.into_iter();
    v1::Examination {
        name: examined.name.to_owned(),
        examines: examined.examines.to_owned(),
        findings: findings
            .map(|finding| v1::Finding {
                severity: finding.severity.name().to_owned(),
                object: finding.object,
                seen: finding.seen,
                mend: finding.mend,
            })
            .collect(),
    }
}
