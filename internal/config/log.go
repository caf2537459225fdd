package config

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// Logger returns a logger that writes to out as c says. The format "auto" is text if out is a terminal, and JSON
// otherwise.
func (c Log) Logger(out io.Writer) *slog.Logger { return c.logger(out, c.Text(out)) }

// Unblocked returns Logger(out) as the function of this name does.
func (c Log) Unblocked(out io.Writer) (log *slog.Logger, end func()) {
	return Unblocked(out, func(in io.Writer) *slog.Logger { return c.logger(in, c.Text(out)) })
}

func (c Log) logger(out io.Writer, text bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if text {
		return slog.New(slog.NewTextHandler(out, options))
	}
	options.ReplaceAttr = withUnit
	return slog.New(slog.NewJSONHandler(out, options))
}

// Text reports whether a log that is written to out is text, and not JSON.
func (c Log) Text(out io.Writer) bool {
	return c.Format == "text" || c.Format == "auto" && isTerminal(out)
}

// ForPerson reports whether what is written to out is text on a terminal, where a person reads it and no program keeps
// it.
func (c Log) ForPerson(out io.Writer) bool { return isTerminal(out) && c.Text(out) }

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) // #nosec G115 -- a file descriptor is small
}

// withUnit adds the unit to the name of a duration, because in JSON a duration is only a number: "duration" becomes
// "duration_ms".
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindDuration {
		return a
	}
	return slog.Float64(a.Key+"_ms", float64(a.Value.Duration().Microseconds())/1000)
}
