//! What the operator and the publishers signed, verified on the publisher's own machine: an origin is believed as little
//! here as on a node. Without it, a stolen origin could slip a digest of its own among the releases to go back to.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use eyot_bundle::fleet::Nodes;
use eyot_bundle::name::Name;
use eyot_bundle::trust::{AppTrust, Trust};
use eyot_link::client::Client;
use jiff::Timestamp;

use crate::out::Out;

/// The root that was believed first, in the app's folder.
const PINNED: &str = ".eyot/root.json";
/// A list of nodes larger than this is refused, in bytes.
const NODES_BYTES_MAX: usize = 4 << 20;

/// The app as the signed metadata has it now. The root is `root`, or the one pinned in the app's `folder`; where there
/// is none yet, the origin's first root is pinned there, and that is said.
pub(crate) async fn app(
    client: &Client,
    folder: &Path,
    root: Option<&Path>,
    app: &Name,
    out: Out,
) -> anyhow::Result<AppTrust> {
    let trust = trust(client, folder, root, out).await?;
    match trust.apps().into_iter().find(|trusted| trusted.app == *app) {
        None => bail!("the operator has not granted an app `{app}`; they do so with `eyot app add {app}`"),
        // The role's first version is missing until the first publish.
        Some(trusted) if trusted.version == 0 => Ok(trusted),
        Some(AppTrust { refused: Some(refusal), .. }) => {
            Err(refusal).with_context(|| format!("the newest metadata of `{app}` is not to be believed"))
        }
        Some(trusted) => Ok(trusted),
    }
}

/// The nodes of the fleet as the signed metadata has them now; the root is that of [`app`].
pub(crate) async fn nodes(client: &Client, folder: &Path, root: Option<&Path>, out: Out) -> anyhow::Result<Nodes> {
    let trust = trust(client, folder, root, out).await?;
    if let Some(refusal) = trust.refused().get("fleet") {
        return Err(refusal.clone()).context("the origin's `fleet` is not to be believed");
    }
    let file = trust.fleet().nodes.context("the operator has named no nodes; they do so with `eyot fleet add-node`")?;
    let length = usize::try_from(file.length).unwrap_or(usize::MAX);
    anyhow::ensure!(length <= NODES_BYTES_MAX, "the list of nodes has more than {NODES_BYTES_MAX} bytes");
    let bytes = client.target(&file.path, file.sha256, length).await?;
    file.check(&bytes)?;
    serde_json::from_slice(&bytes).context("the list of nodes")
}

/// All that is signed, verified from the first root.
async fn trust(client: &Client, folder: &Path, root: Option<&Path>, out: Out) -> anyhow::Result<Trust> {
    let root = first_root(client, folder, root, out).await?;
    let mut trust = Trust::new(&root).context("the root of trust")?;
    trust.begin();
    while let Some(want) = trust.wants().into_iter().next() {
        match client.metadata(&want.file).await? {
            Some(bytes) => {
                // A refusal is kept by role; that of this app, if it has one, is told below.
                let _ = trust.feed(&want.file, &bytes, Timestamp::now());
            }
            None => trust.absent(&want.file),
        }
    }
    let refused = trust.refused();
    if let Some((role, refusal)) =
        ["root", "timestamp", "snapshot", "targets"].iter().find_map(|role| refused.get_key_value(*role))
    {
        return Err(refusal.clone()).with_context(|| format!("the origin's `{role}` is not to be believed"));
    }
    Ok(trust)
}

async fn first_root(client: &Client, folder: &Path, root: Option<&Path>, out: Out) -> anyhow::Result<Vec<u8>> {
    let pinned = folder.join(PINNED);
    if let Some(file) = root.or_else(|| pinned.exists().then_some(pinned.as_path())) {
        return fs::read(file).with_context(|| format!("the root of trust {}", file.display()));
    }
    let bytes = client.metadata("1.root.json").await?.context("the origin has no root; is it an origin of eyot?")?;
    Trust::new(&bytes).context("the origin's root of trust")?;
    fs::create_dir_all(folder.join(".eyot"))
        .and_then(|()| fs::write(&pinned, &bytes))
        .with_context(|| format!("pinning the root of trust in {}", pinned.display()))?;
    out.note(format!("this origin's root of trust is pinned in {}; compare it with the operator's", pinned.display()));
    Ok(bytes.to_vec())
}
