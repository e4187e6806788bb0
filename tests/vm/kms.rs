//! What only a kernel with KMS can show; runs in the rig (`./run.sh test vm`).
