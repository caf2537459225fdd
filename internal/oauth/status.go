package oauth

import (
	"strconv"
	"strings"
)

// StatusListSize is the number of indexes in one status list, each of which is one bit.
const StatusListSize = 1 << 20

// The kinds of status lists: those of grants, with one index for all tokens of a grant, and those of machine clients,
// with one for each token.
const (
	GrantStatus   = "g"
	MachineStatus = "m"
)

// StatusPath is the path of the status lists below the issuer; the name of a list follows.
const StatusPath = "/oauth2/status/"

// Status is the claim that says where the status of a token is published (Token Status List §6.1).
type Status struct {
	List StatusReference `json:"status_list"`
}

// StatusReference is the place of a token in a status list.
type StatusReference struct {
	Index int64  `json:"idx"`
	URI   string `json:"uri"`
}

// StatusAt returns the status claim for the index n, counted through all lists of a kind.
func StatusAt(issuer, kind string, n int64) *Status {
	return &Status{StatusReference{Index: n % StatusListSize,
		URI: issuer + StatusPath + kind + strconv.FormatInt(n/StatusListSize, 10)}}
}

// String returns the name of the list and the index, as in "g0/17".
func (s *Status) String() string {
	return s.List.URI[strings.LastIndexByte(s.List.URI, '/')+1:] + "/" + strconv.FormatInt(s.List.Index, 10)
}

// ParseStatusList returns the kind and the number of the list with a name.
func ParseStatusList(name string) (kind string, number int64, ok bool) {
	if len(name) < 2 {
		return "", 0, false
	}
	kind = name[:1]
	number, err := strconv.ParseInt(name[1:], 10, 32)
	ok = err == nil && number >= 0 && (kind == GrantStatus || kind == MachineStatus) &&
		name == kind+strconv.FormatInt(number, 10)
	return kind, number, ok
}
