package main

import (
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// columnGap is the space between two columns.
const columnGap = "  "

// A style is how tables look on an output. The zero style is for files and pipes: a row is one line, without colors.
type style struct {
	Width  int  // in columns of a terminal; 0 means that nothing is folded
	Colors bool // whether the output shows colors
}

// styleOf returns the style for out and the given environment. The width is COLUMNS if that is set, and otherwise the
// width of the terminal, if out is one. A terminal has colors unless NO_COLOR is set or TERM is "dumb".
func styleOf(out io.Writer, environ []string) style {
	value := func(name string) string {
		for _, variable := range slices.Backward(environ) {
			if text, found := strings.CutPrefix(variable, name+"="); found {
				return text
			}
		}
		return ""
	}
	var s style
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) { // #nosec G115 -- a file descriptor is small
		s.Colors = value("NO_COLOR") == "" && value("TERM") != "dumb"
		if wide, _, err := term.GetSize(int(file.Fd())); err == nil { // #nosec G115 -- as above
			s.Width = wide
		}
	}
	if wide, err := strconv.Atoi(value("COLUMNS")); err == nil && wide > 0 {
		s.Width = wide
	}
	return s
}

// alarms are the texts of cells that are red on an output with colors.
var alarms = []string{"REFUSED", "FAILED"}

// paint returns a cell, red if it is one of alarms and s has colors.
func (s style) paint(cell string) string {
	if text := strings.TrimRight(cell, " "); s.Colors && slices.Contains(alarms, text) {
		return "\x1b[31m" + text + "\x1b[0m" + strings.TrimPrefix(cell, text)
	}
	return cell
}

// Line returns a row as one line without its end, at any width.
func (s style) Line(cells ...string) string {
	line := make([]string, len(cells))
	for i, cell := range cells {
		line[i] = s.paint(plain(cell))
	}
	return strings.TrimRight(strings.Join(line, columnGap), " ")
}

// A table collects rows, and Flush prints them so that they fit the terminal. The text of a cell may come from
// strangers: what is not printable is replaced, so that no escape sequence and no line break reaches the terminal.
type table struct {
	out    io.Writer
	style  style
	fold   map[string]int // the least width of a folded column, by its heading; nil if the table is not fitted
	head   []string       // the heading
	rows   [][]string     // those that are not printed yet
	laid   bool           // whether rows were printed, and widths are fixed
	widths []int          // of the columns; nil if each row is a block
}

// newTable returns an empty table that is printed to out.
func newTable(out io.Writer, style style) *table { return &table{out: out, style: style} }

// Head sets the heading. It is printed once, above the first row.
func (t *table) Head(cells ...string) {
	if !t.laid {
		t.head = cells
		t.rows = append(t.rows, cells)
	}
}

// Row adds a row. A row of one cell is a sentence, which belongs to no column.
func (t *table) Row(cells ...string) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = plain(cell)
	}
	t.rows = append(t.rows, row)
}

// Fold names columns, by their headings, whose cells may be folded to several lines if the table is wider than the
// terminal. A folded column is at least as wide as its longest word, or least if that is less. If the table is still
// too wide, each row becomes a block, with a line for each cell. A table on which Fold is not called is never changed.
func (t *table) Fold(least int, headings ...string) {
	if t.fold == nil {
		t.fold = map[string]int{}
	}
	for _, heading := range headings {
		t.fold[heading] = least
	}
}

// Flush prints the rows that were added since the last Flush. The first one decides how wide the columns are, so that a
// long list is printed part by part; a later cell that is longer and not folded moves the rest of its row.
func (t *table) Flush() error {
	first := !t.laid
	if first {
		t.widths, t.laid = t.fit(t.widest()), true
	}
	var b strings.Builder
	if t.widths == nil {
		t.printBlocks(&b, first)
	} else {
		for _, row := range t.rows {
			t.print(&b, row)
		}
	}
	t.rows = nil
	_, err := io.WriteString(t.out, b.String())
	return err
}

// widest returns the width of each column. The last cell of a row ends the line, so that it counts only in a table
// whose columns are folded.
func (t *table) widest() []int {
	widths := []int{}
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if i < len(row)-1 || t.fold != nil {
				widths[i] = max(widths[i], columns(cell))
			}
		}
	}
	return widths
}

// fit returns the widths with which the table fits the terminal, or nil if there are none.
func (t *table) fit(widths []int) []int {
	if t.style.Width == 0 || t.fold == nil || len(t.rows) == 0 {
		return widths
	}
	fitted := slices.Clone(widths)
	left := t.style.Width - len(columnGap)*(len(widths)-1)
	var folded []int
	for i, heading := range t.head {
		if least, ok := t.fold[heading]; ok {
			folded = append(folded, i)
			fitted[i] = min(least, t.longestWord(i))
		}
		left -= fitted[i]
	}
	if left < 0 {
		return nil
	}
	for wider := true; wider; { // what is left goes to the folded columns in turn
		wider = false
		for _, i := range folded {
			if left > 0 && fitted[i] < widths[i] {
				fitted[i]++
				left--
				wider = true
			}
		}
	}
	return fitted
}

// longestWord returns the width of the longest word of column i.
func (t *table) longestWord(i int) (longest int) {
	for _, row := range t.rows {
		if i < len(row) {
			for word := range strings.FieldsSeq(row[i]) {
				longest = max(longest, columns(word))
			}
		}
	}
	return longest
}

// print writes one row, with a line for each line of its highest cell.
func (t *table) print(b *strings.Builder, row []string) {
	cells := make([][]string, len(row))
	height := 0
	for i, cell := range row {
		cells[i] = []string{cell}
		if t.folds(i) {
			cells[i] = folded(cell, t.widths[i])
		}
		height = max(height, len(cells[i]))
	}
	for n := range height {
		var line strings.Builder
		for i, lines := range cells {
			cell := ""
			if n < len(lines) {
				cell = lines[n]
			}
			line.WriteString(t.style.paint(cell))
			if i < len(cells)-1 {
				line.WriteString(strings.Repeat(" ", max(0, t.width(i)-columns(cell))) + columnGap)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// folds reports whether the cells of column i are folded.
func (t *table) folds(i int) bool {
	if t.style.Width == 0 || i >= len(t.head) {
		return false
	}
	_, folds := t.fold[t.head[i]]
	return folds
}

// width returns the width of column i, 0 if no row had it when the widths were fixed.
func (t *table) width(i int) int {
	if i < len(t.widths) {
		return t.widths[i]
	}
	return 0
}

// printBlocks writes every row as a block: a line with heading and cell for each column.
func (t *table) printBlocks(b *strings.Builder, first bool) {
	rows := t.rows
	if first {
		rows = rows[1:] // the heading is in each block
	}
	side := 0
	for _, cell := range t.head {
		side = max(side, columns(cell))
	}
	for n, row := range rows {
		if n > 0 || !first {
			b.WriteString("\n")
		}
		for i, cell := range row {
			for j, line := range folded(cell, max(1, t.style.Width-side-len(columnGap))) {
				name := t.head[i]
				if j > 0 {
					name = ""
				}
				b.WriteString(strings.TrimRight(name+strings.Repeat(" ",
					side-columns(name))+columnGap+t.style.paint(line), " ") + "\n")
			}
		}
	}
}

// folded returns text in lines of at most most columns. A line ends between two words; only a word that is longer than
// a line is broken.
func folded(text string, most int) (lines []string) {
	if columns(text) <= most {
		return []string{text}
	}
	line, used := "", 0
	end := func() {
		lines = append(lines, line)
		line, used = "", 0
	}
	for word := range strings.FieldsSeq(text) {
		if used > 0 && used+1+columns(word) <= most {
			line, used = line+" ", used+1
		} else if used > 0 {
			end()
		}
		for _, r := range word {
			if n := runeWidth(r); used > 0 && used+n > most {
				end()
			}
			line += string(r)
			used += runeWidth(r)
		}
	}
	end()
	return lines
}

// plain returns s with everything that is not a visible character or a space replaced by U+FFFD.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// dash returns s, or a dash for the empty string.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// columns returns how many columns of a terminal s takes.
func columns(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0 // it is drawn over the character before it
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	default:
		return 1
	}
}
