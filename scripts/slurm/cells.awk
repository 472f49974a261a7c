# From the JSON of `reproduce --plan`, a line `SECONDS HASH` a cell.
/^ *"estimated_seconds": / { seconds = $2; sub(/,$/, "", seconds) }
/^ *"hash": / { hash = $2; gsub(/[",]/, "", hash) }
/^ *}/ { print seconds, hash }
