//! Clones of containers: what a container has written becomes an image, from which the clone is made.

use bollard::{
    models::ContainerConfig,
    query_parameters::{CommitContainerOptionsBuilder, RemoveImageOptionsBuilder},
};
use lb_model::pool::{InstanceName, Launch};

use super::{Inner, status};
use crate::DriverError;

/// The repository of the images of clones; each has the clone's name as its tag.
const REPOSITORY: &str = "lb-clone";

/// The image of a clone.
fn image(name: &InstanceName) -> String {
    format!("{REPOSITORY}:{name}")
}

impl Inner {
    pub(super) async fn clone_to(
        &self,
        from: &InstanceName,
        launch: &Launch,
    ) -> Result<(), DriverError> {
        let name = &launch.name;
        let engine = self.engine().await?;
        match self.find(&engine, name).await {
            Ok(_) => return Ok(()),
            Err(DriverError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let found = self.find(&engine, from).await?;
        let options = CommitContainerOptionsBuilder::new()
            .container(&found.id)
            .repo(REPOSITORY)
            .tag(&name.to_string())
            // Its files are those of one moment.
            .pause(true)
            .build();
        engine
            .commit_container(options, ContainerConfig::default())
            .await
            .map_err(|error| self.error_of(from, "cloning", &error))?;
        let launch = Launch {
            image: Some(image(name)),
            ..launch.clone()
        };
        self.create(&launch).await
    }

    /// Removes the image of a clone that is gone.
    pub(super) async fn remove_image(&self, launch: &Launch) -> Result<(), DriverError> {
        let own = image(&launch.name);
        if launch.image.as_ref() != Some(&own) {
            return Ok(());
        }
        let engine = self.engine().await?;
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        match engine.remove_image(&own, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.error_of(&launch.name, "removing the image of", &error)),
        }
    }
}
