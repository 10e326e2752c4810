//go:build !unfenced

package featurestore

import _ "embed"

//go:embed scripts/save.lua
var saveLua string
