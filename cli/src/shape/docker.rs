//! The types of Docker's API, version 1.51, in the order of its documents. A line is a field: its name in templates,
//! `=` and its name in JSON where that differs, `?` where JSON leaves it out when it is empty, and its type.

/// What stands in a container that says nothing else.
pub(super) const CONTAINER_DEFAULTS: &str = r#"{
    "Platform": "linux",
    "HostConfig": {
        "LogConfig": {"Type": "json-file", "Config": {}},
        "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "ConsoleSize": [0, 0],
        "CgroupnsMode": "private",
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "Devices": [],
        "IpcMode": "private",
        "Runtime": "lap"
    },
    "Config": {"Labels": {}},
    "NetworkSettings": {"Ports": {}}
}"#;

/// Types and their fields.
pub(super) const TYPES: &[(&str, &str)] = &[
    (
        "container.InspectResponse",
        "ID=Id string
        Created string
        Path string
        Args []string
        State container.State
        Image string
        ResolvConfPath string
        HostnamePath string
        HostsPath string
        LogPath string
        Name string
        RestartCount int
        Driver string
        Platform string
        MountLabel string
        ProcessLabel string
        AppArmorProfile string
        ExecIDs []string
        HostConfig container.HostConfig
        GraphDriver storage.DriverData
        SizeRw? *int
        SizeRootFs? *int
        Mounts []container.MountPoint
        Config container.Config
        NetworkSettings container.NetworkSettings",
    ),
    (
        "container.State",
        "Status string
        Running bool
        Paused bool
        Restarting bool
        OOMKilled bool
        Dead bool
        Pid int
        ExitCode int
        Error string
        StartedAt string
        FinishedAt string
        Health? *container.Health",
    ),
    (
        "container.Health",
        "Status string
        FailingStreak int
        Log []container.HealthcheckResult",
    ),
    (
        "container.HealthcheckResult",
        "Start string
        End string
        ExitCode int
        Output string",
    ),
    (
        "container.HostConfig",
        "Binds []string
        ContainerIDFile string
        LogConfig container.LogConfig
        NetworkMode string
        PortBindings map[string][]nat.PortBinding
        RestartPolicy container.RestartPolicy
        AutoRemove bool
        VolumeDriver string
        VolumesFrom []string
        ConsoleSize []int
        Annotations? map[string]string
        CapAdd []string
        CapDrop []string
        CgroupnsMode string
        DNS=Dns []string
        DNSOptions=DnsOptions []string
        DNSSearch=DnsSearch []string
        ExtraHosts []string
        GroupAdd []string
        IpcMode string
        Cgroup string
        Links []string
        OomScoreAdj int
        PidMode string
        Privileged bool
        PublishAllPorts bool
        ReadonlyRootfs bool
        SecurityOpt []string
        StorageOpt? map[string]string
        Tmpfs? map[string]string
        UTSMode string
        UsernsMode string
        ShmSize int
        Sysctls? map[string]string
        Runtime string
        Isolation string
        CPUShares=CpuShares int
        Memory int
        NanoCPUs=NanoCpus int
        CgroupParent string
        BlkioWeight int
        BlkioWeightDevice []any
        BlkioDeviceReadBps []any
        BlkioDeviceWriteBps []any
        BlkioDeviceReadIOps []any
        BlkioDeviceWriteIOps []any
        CPUPeriod=CpuPeriod int
        CPUQuota=CpuQuota int
        CPURealtimePeriod=CpuRealtimePeriod int
        CPURealtimeRuntime=CpuRealtimeRuntime int
        CpusetCpus string
        CpusetMems string
        Devices []any
        DeviceCgroupRules []string
        DeviceRequests []any
        MemoryReservation int
        MemorySwap int
        MemorySwappiness *int
        OomKillDisable *bool
        PidsLimit *int
        Ulimits []container.Ulimit
        CPUCount=CpuCount int
        CPUPercent=CpuPercent int
        IOMaximumIOps int
        IOMaximumBandwidth int
        Mounts? []any
        MaskedPaths []string
        ReadonlyPaths []string
        Init? *bool",
    ),
    (
        "container.LogConfig",
        "Type string
        Config map[string]string",
    ),
    (
        "container.RestartPolicy",
        "Name string
        MaximumRetryCount int",
    ),
    (
        "container.Ulimit",
        "Name string
        Hard int
        Soft int",
    ),
    (
        "nat.PortBinding",
        "HostIP=HostIp string
        HostPort string",
    ),
    (
        "storage.DriverData",
        "Data map[string]string
        Name string",
    ),
    (
        "container.MountPoint",
        "Type string
        Name? string
        Source string
        Destination string
        Driver? string
        Mode string
        RW bool
        Propagation string",
    ),
    (
        "container.Config",
        "Hostname string
        Domainname string
        User string
        AttachStdin bool
        AttachStdout bool
        AttachStderr bool
        ExposedPorts? map[string]struct {}
        Tty bool
        OpenStdin bool
        StdinOnce bool
        Env []string
        Cmd []string
        Healthcheck? *container.HealthConfig
        ArgsEscaped? bool
        Image string
        Volumes map[string]struct {}
        WorkingDir string
        Entrypoint []string
        NetworkDisabled? bool
        MacAddress? string
        OnBuild []string
        Labels map[string]string
        StopSignal? string
        StopTimeout? *int
        Shell? []string",
    ),
    (
        "container.HealthConfig",
        "Test? []string
        Interval? int
        Timeout? int
        StartPeriod? int
        StartInterval? int
        Retries? int",
    ),
    (
        "container.NetworkSettings",
        "Bridge string
        SandboxID string
        SandboxKey string
        Ports map[string][]nat.PortBinding
        HairpinMode bool
        LinkLocalIPv6Address string
        LinkLocalIPv6PrefixLen int
        SecondaryIPAddresses []any
        SecondaryIPv6Addresses []any
        EndpointID string
        Gateway string
        GlobalIPv6Address string
        GlobalIPv6PrefixLen int
        IPAddress string
        IPPrefixLen int
        IPv6Gateway string
        MacAddress string
        Networks map[string]*network.EndpointSettings",
    ),
    (
        "network.EndpointSettings",
        "IPAMConfig any
        Links []string
        Aliases []string
        MacAddress string
        DriverOpts map[string]string
        GwPriority int
        NetworkID string
        EndpointID string
        Gateway string
        IPAddress string
        IPPrefixLen int
        IPv6Gateway string
        GlobalIPv6Address string
        GlobalIPv6PrefixLen int
        DNSNames []string",
    ),
    (
        "image.InspectResponse",
        "ID=Id string
        RepoTags []string
        RepoDigests []string
        Parent string
        Comment string
        Created? string
        DockerVersion string
        Author string
        Config v1.DockerOCIImageConfig
        Architecture string
        Variant? string
        Os string
        OsVersion? string
        Size int
        GraphDriver storage.DriverData
        RootFS image.RootFS
        Metadata image.Metadata
        Descriptor? *v1.Descriptor",
    ),
    (
        "v1.DockerOCIImageConfig",
        "User? string
        ExposedPorts? map[string]struct {}
        Env? []string
        Entrypoint? []string
        Cmd? []string
        Volumes? map[string]struct {}
        WorkingDir? string
        Labels? map[string]string
        StopSignal? string
        ArgsEscaped? bool
        Healthcheck? *container.HealthConfig
        OnBuild? []string
        Shell? []string",
    ),
    (
        "image.RootFS",
        "Type string
        Layers? []string",
    ),
    ("image.Metadata", "LastTagTime string"),
    (
        "v1.Descriptor",
        "MediaType=mediaType string
        Digest=digest string
        Size=size int",
    ),
    (
        "command.versionInfo",
        "Client command.clientVersion
        Server command.clientVersion",
    ),
    (
        "command.clientVersion",
        "Platform command.platformInfo
        Version string
        APIVersion=ApiVersion string
        DefaultAPIVersion? string
        MinAPIVersion? string
        GitCommit string
        Os string
        Arch string
        KernelVersion? string
        Context? string",
    ),
    ("command.platformInfo", "Name string"),
    ("struct {}", ""),
    (
        "system.dockerInfo",
        "ID string
        Containers int
        ContainersRunning int
        ContainersPaused int
        ContainersStopped int
        Images int
        Driver string
        DriverStatus [][]string
        Plugins system.PluginsInfo
        MemoryLimit bool
        SwapLimit bool
        CPUCfsPeriod=CpuCfsPeriod bool
        CPUCfsQuota=CpuCfsQuota bool
        CPUShares bool
        CPUSet bool
        PidsLimit bool
        IPv4Forwarding bool
        Debug bool
        NFd int
        OomKillDisable bool
        NGoroutines int
        SystemTime string
        LoggingDriver string
        CgroupDriver string
        CgroupVersion? string
        NEventsListener int
        KernelVersion string
        OperatingSystem string
        OSVersion string
        OSType string
        Architecture string
        IndexServerAddress string
        RegistryConfig any
        NCPU int
        MemTotal int
        GenericResources any
        DockerRootDir string
        HTTPProxy=HttpProxy string
        HTTPSProxy=HttpsProxy string
        NoProxy string
        Name string
        Labels []string
        ExperimentalBuild bool
        ServerVersion string
        Runtimes any
        DefaultRuntime string
        Swarm any
        LiveRestoreEnabled bool
        Isolation string
        InitBinary string
        ContainerdCommit any
        RuncCommit any
        InitCommit any
        SecurityOptions []string
        CDISpecDirs []string
        Warnings []string
        ClientInfo any",
    ),
    (
        "system.PluginsInfo",
        "Volume []string
        Network []string
        Authorization []string
        Log []string",
    ),
];
