import tide


def main():
    print("tide:", tide.state())


if __name__ == "__main__":
    main()
