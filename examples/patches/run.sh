#!/bin/sh
# The whole way, from arrays to predictions, in the folder that one is in: minutes on two cores. Run again, it goes on.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

[ -e patches.h5 ] || python "$here/make_patches.py" patches.h5

hpcnas search --config "$here/search.toml" --run runs/search --dry-run --measure
hpcnas search --config "$here/search.toml" --run runs/search
hpcnas summary runs/search
hpcnas report runs/search --output search.html

hpcnas retrain --config "$here/retraining.toml" --genotype runs/search:best --run runs/retraining
hpcnas summary runs/retraining
hpcnas report runs/retraining --output retraining.html
hpcnas export classes runs/retraining --output classes.csv

hpcnas predict runs/retraining --data arrays:patches.h5 --csv predictions.csv
