package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/config"
)

// configFlag adds the flag that names the configuration.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration `FILE` (default "+config.DefaultFile+" where that exists)")
}

// configFile returns the configuration to use: that of the flag, that of the argument if the
// command takes one, or the default if it exists.
func configFile(cmd *cobra.Command, flag string, args []string) (string, error) {
	if len(args) > 0 {
		if cmd.Flags().Changed("config") {
			return "", usageError(cmd, "two configurations, %q and %q: one is read", flag, args[0])
		}
		flag = args[0]
	}
	if flag != "" {
		return flag, nil
	}
	if cmd.Flags().Changed("config") {
		return "", usageError(cmd, "-c names no file")
	}
	// A default file that exists but cannot be read is still the one that is meant.
	if _, err := os.Stat(config.DefaultFile); errors.Is(err, fs.ErrNotExist) {
		return "", usageError(cmd, "which configuration? There is no %s: name it with -c FILE", config.DefaultFile)
	}
	return config.DefaultFile, nil
}

// optionalConfigFile is configFile for a command that can work without a configuration: "" if
// there is none.
func optionalConfigFile(cmd *cobra.Command, flag string, args []string) (string, error) {
	file, err := configFile(cmd, flag, args)
	if err != nil && len(args) == 0 && !cmd.Flags().Changed("config") {
		return "", nil
	}
	return file, err
}

// needs reports that a flag requires another one.
func needs(cmd *cobra.Command, flag, other string) error {
	if cmd.Flags().Changed(flag) && !cmd.Flags().Changed(other) {
		return usageError(cmd, "--%s needs --%s", flag, other)
	}
	return nil
}

// excludes reports flags that cannot be given together.
func excludes(cmd *cobra.Command, flag string, others ...string) error {
	for _, other := range others {
		if cmd.Flags().Changed(flag) && cmd.Flags().Changed(other) {
			return usageError(cmd, "--%s and --%s cannot be given together", flag, other)
		}
	}
	return nil
}
