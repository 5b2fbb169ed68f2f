//! The task that asks on behalf of one real.

use std::net::IpAddr;

use lb_model::vip::VipAddress;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

use super::{emqx, post::Post, spec::ShedBy, webhook};

/// What is wanted of a real's connections now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    /// So many are to go until the next period.
    pub flows: u32,
    /// It is drained by hand.
    pub drained: bool,
    /// Connections a second that may be ended.
    pub rate: f64,
}

/// Asks whoever sheds a real's connections. Dropping it ends it; what was asked for stays.
#[derive(Debug)]
pub struct Shedder {
    by: ShedBy,
    orders: watch::Sender<Option<Order>>,
    task: AbortHandle,
}

impl Drop for Shedder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shedder {
    /// Begins; none where the data plane sheds.
    #[must_use]
    pub fn start(by: &ShedBy, vip: VipAddress, real: IpAddr) -> Option<Self> {
        let asked = match by {
            ShedBy::Reset => return None,
            ShedBy::Webhook { asked, .. } | ShedBy::Emqx { asked, .. } => asked,
        };
        let (orders, given) = watch::channel(None);
        let work = Work {
            by: by.clone(),
            vip,
            real,
            post: Post::new(asked, real),
            evacuated: false,
            trouble: None,
        };
        let task: JoinHandle<()> = tokio::spawn(work.run(given));
        Some(Shedder {
            by: by.clone(),
            orders,
            task: task.abort_handle(),
        })
    }

    /// Whether it sheds like this.
    #[must_use]
    pub fn is(&self, by: &ShedBy) -> bool {
        self.by == *by
    }

    /// Takes an order in the place of one that waits. False: it is none of its business, and the data plane's.
    #[must_use]
    pub fn order(&self, order: Order) -> bool {
        let (told, taken) = match self.by {
            ShedBy::Reset => (false, false),
            ShedBy::Webhook { .. } => (order.flows > 0, true),
            // It has to hear, too, of one that is not drained any more.
            ShedBy::Emqx { .. } => (true, order.drained),
        };
        if told {
            self.orders.send_replace(Some(order));
        }
        taken
    }
}

struct Work {
    by: ShedBy,
    vip: VipAddress,
    real: IpAddr,
    post: Post,
    /// Whether EMQX evacuates it on our order.
    evacuated: bool,
    /// What was last told of.
    trouble: Option<String>,
}

impl Work {
    async fn run(mut self, mut orders: watch::Receiver<Option<Order>>) {
        while orders.changed().await.is_ok() {
            let Some(order) = *orders.borrow_and_update() else {
                continue;
            };
            let outcome = self.carry_out(order).await;
            self.tell(outcome.err());
        }
    }

    async fn carry_out(&mut self, order: Order) -> Result<(), String> {
        match &self.by {
            ShedBy::Reset => Ok(()),
            ShedBy::Webhook { path, asked } => {
                let path = asked.fill(path, self.real);
                webhook::tell(&mut self.post, &path, self.vip, self.real, order).await
            }
            ShedBy::Emqx { node, asked } => {
                // An evacuation that somebody else began is not ended.
                if self.evacuated == order.drained {
                    return Ok(());
                }
                let node = asked.fill(node, self.real);
                emqx::tell(&mut self.post, &node, order).await?;
                self.evacuated = order.drained;
                let what = if order.drained {
                    "EMQX evacuates it"
                } else {
                    "EMQX evacuates it no more"
                };
                tracing::info!("VIP {}, real {}: {what}", self.vip, self.real);
                Ok(())
            }
        }
    }

    /// A line per change.
    fn tell(&mut self, trouble: Option<String>) {
        if let Some(trouble) = &trouble
            && self.trouble.as_ref() != Some(trouble)
        {
            tracing::warn!(
                "VIP {}, real {}: connections are not shed: {trouble}",
                self.vip,
                self.real
            );
        }
        self.trouble = trouble;
    }
}
