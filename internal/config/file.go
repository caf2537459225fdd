package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// maxFile is the largest number of bytes that ReadAll reads, because a device or a pipe may never end.
const maxFile = 1 << 20

// emptyError says that there is nothing in what it names.
type emptyError string

func (e emptyError) Error() string { return fmt.Sprintf("%s is empty", string(e)) }

// ReadFile returns what is in a file that an operator names, as ReadAll does.
func ReadFile(path string) ([]byte, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	return ReadAll(file, "the file "+path)
}

// ReadAll returns the text of a reader, which is called name in errors, without the byte order mark that some editors
// begin it with. It returns an error if there is nothing to read or more than 1 MB.
func ReadAll(from io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w", name, err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s has more than %d MB", name, maxFile>>20)
	case len(text) == 0:
		return nil, emptyError(name)
	}
	return text, nil
}

// ReadSecret returns the text in a file as ReadFile does, without the end of its last line. Its error says what to do.
func ReadSecret(path string) (string, error) {
	text, err := ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w; check the path and its permissions", err)
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return "", fmt.Errorf("the file %s is not a text in UTF-8; write it as one", path)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%w; check the path", emptyError("the file "+path))
	}
	return secret, nil
}
