//! An OCI layout of one layer, for extractors of images.

use std::fs;
use std::path::Path;

use airlock_archive::{Compression, Summary};
use airlock_policy::digest::Digest;
use serde_json::{Value, json};

const TYPE: &str = "application/vnd.oci.image";

/// Makes the layout of an archive, under the name `bench`.
pub(crate) fn make(folder: &Path, archive: &Path, summary: &Summary) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::copy(archive, blobs.join(summary.blob.0.hex())).unwrap();
    let layer_type = match summary.compression {
        Compression::Plain => "layer.v1.tar",
        Compression::Gzip => "layer.v1.tar+gzip",
        Compression::Zstd => "layer.v1.tar+zstd",
    };
    let put = |kind: &str, value: &Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::of(&bytes).hex();
        fs::write(blobs.join(&digest), &bytes).unwrap();
        json!({"mediaType": format!("{TYPE}.{kind}"), "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let diff_id = format!("sha256:{}", summary.diff_id.0.hex());
    let config = put(
        "config.v1+json",
        &json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "bench"}],
        }),
    );
    let mut manifest = put(
        "manifest.v1+json",
        &json!({
            "schemaVersion": 2, "mediaType": format!("{TYPE}.manifest.v1+json"), "config": config,
            "layers": [{
                "mediaType": format!("{TYPE}.{layer_type}"),
                "digest": format!("sha256:{}", summary.blob.0.hex()),
                "size": summary.blob_bytes,
            }],
        }),
    );
    if let Some(fields) = manifest.as_object_mut() {
        let name = json!({"org.opencontainers.image.ref.name": "bench"});
        fields.insert("annotations".to_owned(), name);
    }
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())
        .unwrap();
}
