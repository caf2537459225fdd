package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// plainValue returns a value in JSON as all that mean the same are written, as 1.0 is 1, or a letter an escape. Unlike
// in an id, numbers keep all their digits: to a server that reads integers, 9007199254740993 is not 9007199254740992.
func plainValue(data []byte) string {
	if len(data) > 0 && (data[0] == '-' || '0' <= data[0] && data[0] <= '9') {
		return plainNumber(string(data))
	}
	return plainID(data)
}

// plainNumber returns a number in JSON as its digits, without zeros before or behind them, and a power of ten.
func plainNumber(text string) string {
	mantissa, power, _ := strings.Cut(strings.ToLower(text), "e")
	exponent, err := strconv.Atoi(power)
	if power != "" && err != nil {
		return text
	}
	mantissa, isNegative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	all := strings.TrimLeft(whole+fraction, "0")
	digits := strings.TrimRight(all, "0")
	switch exponent += len(all) - len(digits) - len(fraction); {
	case digits == "":
		return "0"
	case isNegative:
		digits = "-" + digits
	}
	return digits + "e" + strconv.Itoa(exponent)
}

// jsonOf returns a scalar of YAML in JSON. What YAML takes for a point in time is a string, as it is in JSON.
func jsonOf(n *yaml.Node) ([]byte, error) {
	if n.Kind != yaml.ScalarNode {
		return nil, errors.New("it is not a scalar")
	}
	var value any
	switch n.ShortTag() {
	case "!!timestamp":
		value = n.Value
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return []byte(n.Value), nil // with all its digits
		}
		fallthrough
	default:
		if err := n.Decode(&value); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	return json.Marshal(value)
}
